import { at, type RefTensor, ref } from "./tensor.ts";

export interface NumericalGradientOptions {
  /** Half the distance between the two evaluations; grows with values beyond 1e6. */
  readonly eps?: number;
  /** Which inputs to differentiate, by position; all by default. */
  readonly wrt?: readonly number[];
}

/**
 * d Σ(fn(inputs) · gout) / d input for each input of `wrt`, in that order, by central differences.
 * `fn` may return several tensors; `gout` then has one for each. Elementwise differences are summed, so that a
 * large sum does not drown them. At a kink (relu at 0) the result is the mean of both slopes.
 */
export function numericalGradient(
  fn: (...inputs: RefTensor[]) => RefTensor | readonly RefTensor[],
  inputs: readonly RefTensor[],
  gout: RefTensor | readonly RefTensor[],
  { eps = 1e-6, wrt = [...inputs.keys()] }: NumericalGradientOptions = {},
): RefTensor[] {
  const gouts = list(gout);
  const copies = inputs.map(({ shape, data }) => ref(shape, data));
  // Copied: an output may share its data with an input that is about to change.
  const evaluate = () => list(fn(...copies)).map(({ shape, data }) => ({ shape, data: data.slice() }));
  return wrt.map((position) => {
    const input = copies[position];
    if (!input) throw new Error(`numericalGradient: input ${position} of ${inputs.length}`);
    return ref(
      input.shape,
      input.data.map((value, i) => {
        const step = Math.max(eps, Math.abs(value) * 2 ** -40);
        input.data[i] = value + step;
        const distance = value + step - (value - step);
        const above = evaluate();
        input.data[i] = value - step;
        const below = evaluate();
        input.data[i] = value;
        return change(above, below, gouts) / distance;
      }),
    );
  });
}

function list(value: RefTensor | readonly RefTensor[]): readonly RefTensor[] {
  return "shape" in value ? [value] : value;
}

function change(
  above: readonly RefTensor[],
  below: readonly RefTensor[],
  gouts: readonly RefTensor[],
): number {
  if (above.length !== gouts.length) {
    throw new Error(`numericalGradient: ${above.length} outputs, ${gouts.length} gradients fed in`);
  }
  let sum = 0;
  for (const [n, { data }] of above.entries()) {
    const lower = below[n]?.data ?? [];
    const weights = gouts[n]?.data ?? [];
    if (weights.length !== data.length) {
      throw new Error(
        `numericalGradient: output ${n} has ${data.length} values, its gradient ${weights.length}`,
      );
    }
    for (let i = 0; i < data.length; i++) sum += (at(data, i) - at(lower, i)) * at(weights, i);
  }
  return sum;
}
