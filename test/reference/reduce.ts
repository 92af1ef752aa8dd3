import {
  around,
  at,
  axisOf,
  indexMap,
  largest,
  type RefIndices,
  type RefTensor,
  ref,
  sizeOf,
  stridesOf,
  total,
} from "./tensor.ts";

export interface ReduceOptions {
  /** Dimensions to reduce, counted from the end if negative; all by default. */
  readonly dims?: readonly number[] | undefined;
  /** Keeps reduced dimensions with length 1. */
  readonly keepDim?: boolean | undefined;
}

/** Applies `f` to the list of elements that share an output position. */
function reduce(
  x: RefTensor,
  { dims, keepDim = false }: ReduceOptions,
  f: (group: Float64Array) => number,
): RefTensor {
  const rank = x.shape.length;
  const axes = new Set(dims ? dims.map((dim) => axisOf(rank, dim)) : x.shape.keys());
  const kept = x.shape.map((length, d) => (axes.has(d) ? 1 : length));
  const inside = x.shape.filter((_, d) => axes.has(d));
  const insideSteps = stridesOf(x.shape).filter((_, d) => axes.has(d));
  const offsets = indexMap(inside, inside, insideSteps);
  const starts = indexMap(kept, kept, stridesOf(x.shape));
  const group = new Float64Array(offsets.length);
  const data = Float64Array.from(starts, (start) => {
    for (let i = 0; i < group.length; i++) group[i] = at(x.data, start + at(offsets, i));
    return f(group);
  });
  return { shape: keepDim ? kept : x.shape.filter((_, d) => !axes.has(d)), data };
}

export function sum(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, total);
}

export function mean(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, (group) => total(group) / group.length);
}

/** NaN if one element is. */
export function max(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, largest);
}

/** Mean squared distance from the mean; `unbiased` divides by n - 1. */
export function variance(x: RefTensor, options: ReduceOptions & { unbiased?: boolean } = {}): RefTensor {
  const less = options.unbiased ? 1 : 0;
  return reduce(x, options, (group) => {
    const middle = total(group) / group.length;
    return total(group.map((value) => (value - middle) ** 2)) / (group.length - less);
  });
}

/** log Σ exp(x), without overflow. */
export function logSumExp(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, (group) => {
    const top = largest(group);
    return Number.isFinite(top) ? top + Math.log(total(group.map((value) => Math.exp(value - top)))) : top;
  });
}

/** √Σx² over everything, a scalar. */
export function l2Norm(x: RefTensor): RefTensor {
  return ref([], [Math.sqrt(total(x.data.map((value) => value * value)))]);
}

/** Index of the largest element along `dim`, the first of equals; `dim` is dropped. */
export function argmax(x: RefTensor, { dim = -1 }: { dim?: number } = {}): RefIndices {
  const { outer, length, inner } = around(x.shape, dim);
  const axis = axisOf(x.shape.length, dim);
  const shape = x.shape.filter((_, d) => d !== axis);
  const data = new Int32Array(sizeOf(shape));
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * length * inner + i;
      let best = 0;
      for (let l = 1; l < length; l++) {
        if (at(x.data, start + l * inner) > at(x.data, start + best * inner)) best = l;
      }
      data[o * inner + i] = best;
    }
  }
  return { shape, data };
}
