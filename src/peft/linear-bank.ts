import type { Gpu } from "../array/index.ts";
import {
  bankLinear,
  keep,
  matmul,
  mean,
  noGrad,
  Parameter,
  Tensor,
  tensor,
  tidy,
} from "../autograd/index.ts";
import { Module } from "../nn/index.ts";

/**
 * M linear layers of one shape, of which a route picks one for each group of rows.
 * weight [M, out, in], bias [M, out]. Paper: section 3 (a bank is one side of a mixture; M = 1 is a shared side,
 * or the plain method).
 */
export class LinearBank extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly #only: Tensor;

  constructor(
    gpu: Gpu,
    {
      experts,
      inputs,
      outputs,
      bias = true,
    }: { experts: number; inputs: number; outputs: number; bias?: boolean },
  ) {
    super();
    const size = experts * outputs * inputs;
    const options = { slices: experts };
    this.weight = Parameter.from(gpu, new Float32Array(size), [experts, outputs, inputs], {
      ...options,
      decay: true,
    });
    this.bias = bias
      ? Parameter.from(gpu, new Float32Array(experts * outputs), [experts, outputs], {
          ...options,
          decay: false,
        })
      : null;
    this.#only = keep(new Tensor(gpu, gpu.from(new Int32Array(1))));
  }

  get experts(): number {
    return this.weight.shape[0] as number;
  }

  /**
   * x [..., in] -> [..., out]; rows of group g go through expert route[g], i32 [G]. A route f32 [M] is a weight for
   * each expert: all rows go through Σ weight · expert, and weights get gradients. With one expert it is ignored.
   */
  forward(x: Tensor, route: Tensor | null, scale = 1): Tensor {
    if (route?.dtype === "f32" && this.experts > 1) {
      return tidy(() => {
        const [weight, bias] = [weighted(this.weight, route), this.bias && weighted(this.bias, route)];
        return bankLinear(x, weight, bias, this.#only, { scale });
      });
    }
    const taken = this.experts === 1 || !route ? this.#only : route;
    return bankLinear(x, this.weight, this.bias, taken, { scale });
  }

  /** Overwrites this bank of one expert with the mean of another's, or with Σ weights · expert. Paper: section 3.3. */
  setToMeanOf(other: LinearBank, weights: readonly number[] | null = null): void {
    noGrad(() =>
      tidy(() => {
        for (const part of ["weight", "bias"] as const) {
          const from = other[part];
          const to = this[part];
          if (!from || !to) continue;
          const average =
            weights && other.experts > 1
              ? weighted(from, tensor(from.gpu, Float32Array.from(weights)))
              : mean(from, 0, { keepDim: true });
          to.setTo(average);
        }
      }),
    );
  }

  override dispose(): void {
    super.dispose();
    this.#only.dispose();
  }
}

/** Σ weights[j] bank[j]: bank [M, ...], weights [M] -> [1, ...]. */
function weighted(bank: Tensor, weights: Tensor): Tensor {
  const [M, ...rest] = bank.shape as [number, ...number[]];
  return matmul(weights.reshape(1, M), bank.reshape(M, -1)).reshape(1, ...rest);
}
