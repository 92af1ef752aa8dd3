// What cases of kernels are made of: tensors that are made once, and a computation over them.
import { type Gpu, noGrad, Stream, type Tensor, tensor, tidy } from "../src/index.ts";
import type { Case } from "./measure.ts";

export const stream = Stream.seed(1);

/** A tensor of normal numbers; the same for the same name. */
export function normal(gpu: Gpu, name: string, shape: readonly number[]): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return tensor(gpu, stream.fold(name).normal(size), shape);
}

export function disposeAll(tensors: Iterable<Tensor>): void {
  for (const x of tensors) x.dispose();
}

/** A case of tensors made once and a computation over them, without gradients. */
export function forward(
  name: string,
  { amount, unit }: Pick<Case, "amount" | "unit">,
  inputs: (gpu: Gpu) => Tensor[],
  compute: (inputs: readonly Tensor[]) => Tensor,
): Case {
  return {
    name,
    amount,
    unit,
    setup(gpu) {
      const made = inputs(gpu);
      return { run: () => noGrad(() => compute(made).dispose()), dispose: () => disposeAll(made) };
    },
  };
}

/** The same with its backward pass: the first `trained` inputs get gradients, from a gradient that is made once. */
export function forwardAndBackward(
  name: string,
  { amount, unit }: Pick<Case, "amount" | "unit">,
  inputs: (gpu: Gpu) => Tensor[],
  compute: (inputs: readonly Tensor[]) => Tensor,
  trained: number,
): Case {
  return {
    name,
    amount,
    unit,
    setup(gpu) {
      const made = inputs(gpu);
      const wanting = made.slice(0, trained);
      for (const x of wanting) x.requiresGrad = true;
      const { shape } = noGrad(() => tidy(() => compute(made)));
      const dy = shape.length === 0 ? null : normal(gpu, "dy", shape);
      return {
        run() {
          tidy(() => compute(made).backward(dy ?? undefined));
          for (const x of wanting) x.grad = null; // else the next gradient is added to it
        },
        dispose: () => disposeAll(dy ? [...made, dy] : made),
      };
    },
  };
}

/** Bytes of `times` passes over an array, in units of 1e9. */
export function traffic(times: number, ...shape: number[]): Pick<Case, "amount" | "unit"> {
  return { amount: (4 * times * shape.reduce((product, n) => product * n, 1)) / 1e9, unit: "GB/s" };
}

/** Products, in operations. */
export function products(times: number, M: number, K: number, N: number): Pick<Case, "amount" | "unit"> {
  return { amount: (2 * times * M * K * N) / 1e9, unit: "GFLOP/s" };
}

/** Whole numbers below a limit: i32 [n]. */
export function ids(gpu: Gpu, n: number, below: number): Tensor {
  const own = stream.fold("ids");
  return tensor(
    gpu,
    Int32Array.from({ length: n }, (_, i) => own.integer(below, i)),
  );
}
