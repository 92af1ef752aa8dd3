// What tests of gradients through whole graphs share: leaves, bytes, and a bound for what float64 says.
import type { Gpu, TypedArray } from "../src/array/index.ts";
import { type Tensor, tensor } from "../src/autograd/index.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import * as R from "./reference/index.ts";

/** A tensor that asks for its gradient. */
export function leaf(
  gpu: Gpu,
  values: TypedArray | readonly number[] | R.RefTensor,
  shape?: readonly number[],
): Tensor {
  const x =
    "data" in values && "shape" in values
      ? tensor(gpu, Float32Array.from(values.data), values.shape)
      : tensor(gpu, values, shape);
  x.requiresGrad = true;
  return x;
}

export async function floats(x: Tensor | null | undefined): Promise<Float32Array<ArrayBuffer>> {
  if (!x) throw new Error("no tensor");
  return (await x.data()) as Float32Array<ArrayBuffer>;
}

export function free(...made: readonly (Tensor | null | undefined)[]): void {
  for (const x of made) x?.dispose();
}

/** Number of dispatches that `body` records. */
export function dispatchesOf(gpu: Gpu, body: () => void): number {
  const before = gpu.device.statistics().dispatches;
  body();
  return gpu.device.statistics().dispatches - before;
}

/**
 * Passes where gradients of Σ fn(inputs) are those of float64. `fn` is made of sums and products, so that the same
 * function of absolute values gives Σ|terms|; `products` bounds the factors of a term and K its sums.
 */
export async function assertGradients(
  actual: readonly (Tensor | null)[],
  fn: (...inputs: R.RefTensor[]) => R.RefTensor,
  inputs: readonly R.RefTensor[],
  { K, products, wrt = [...inputs.keys()] }: { K: number; products: number; wrt?: readonly number[] },
): Promise<void> {
  const ones = (y: R.RefTensor): R.RefTensor => R.ref(y.shape, 1);
  const dy = ones(fn(...inputs));
  const expected = R.numericalGradient(fn, inputs, dy, { wrt });
  const absolute = inputs.map((x) => R.map(x, Math.abs));
  const terms = R.numericalGradient(fn, absolute, dy, { wrt });
  for (const [n, gradient] of actual.entries()) {
    const [want, size] = [expected[n], terms[n]];
    if (!want || !size) throw new Error(`no reference for gradient ${n}`);
    const bound = (i: number): number =>
      4 * products * (4 + Math.sqrt(K)) * 2 ** -24 * (size.data[i] ?? 0) +
      1e-9 * (1 + Math.abs(want.data[i] ?? 0));
    assertWithin(await floats(gradient), want.data, bound, `gradient ${n}`);
  }
}
