import {
  around,
  at,
  axisOf,
  indexMap,
  indices,
  largest,
  type RefIndices,
  type RefTensor,
  ref,
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

export function prod(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, (group) => group.reduce((a, b) => a * b, 1));
}

/** NaN if one element is. */
export function max(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, largest);
}

/** NaN if one element is. */
export function min(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, (group) => -largest(group.map((value) => -value)));
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

/** √Σx². */
export function l2Norm(x: RefTensor, options: ReduceOptions = {}): RefTensor {
  return reduce(x, options, (group) => Math.sqrt(total(group.map((value) => value * value))));
}

/** Index of the largest element along `dim`, the first of equals; NaN is the largest. `dim` is dropped. */
export function argmax(x: RefTensor, { dim = -1 }: { dim?: number } = {}): RefIndices {
  return firstOf(x, dim, (a, b) => b - a);
}

/** Index of the smallest element along `dim`, the first of equals; NaN is found before all. */
export function argmin(x: RefTensor, { dim = -1 }: { dim?: number } = {}): RefIndices {
  return firstOf(x, dim, (a, b) => a - b);
}

/** The first element that a stable sort by `order` would put in front; NaN in front of all. */
function firstOf(x: RefTensor, dim: number, order: (a: number, b: number) => number): RefIndices {
  const axis = axisOf(x.shape.length, dim);
  const shape = x.shape.filter((_, d) => d !== axis);
  const places = alongAxis(x, dim, (row) => {
    let best = 0;
    row.forEach((value, i) => {
      const top = at(row, best);
      if (!Number.isNaN(top) && (Number.isNaN(value) || order(value, top) < 0)) best = i;
    });
    return [best];
  });
  return indices(shape, places.data);
}

/** `f` on each row of elements along `dim`, which takes the length that it gives. */
export function alongAxis(x: RefTensor, dim: number, f: (row: Float64Array) => ArrayLike<number>): RefTensor {
  const { outer, length, inner } = around(x.shape, dim);
  const axis = axisOf(x.shape.length, dim);
  const row = new Float64Array(length);
  let out: RefTensor | null = null;
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      for (let l = 0; l < length; l++) row[l] = at(x.data, (o * length + l) * inner + i);
      const result = f(row);
      out ??= ref(x.shape.map((n, d) => (d === axis ? result.length : n)));
      for (let l = 0; l < result.length; l++) out.data[(o * result.length + l) * inner + i] = at(result, l);
    }
  }
  return out ?? ref(x.shape);
}

/** Running sums along `dim`; exclusive: without the element itself; reverse: from the end. */
export function cumsum(
  x: RefTensor,
  dim: number,
  { exclusive = false, reverse = false }: { exclusive?: boolean; reverse?: boolean } = {},
): RefTensor {
  return alongAxis(x, dim, (row) => {
    const sums = new Float64Array(row.length);
    let sum = 0;
    for (let n = 0; n < row.length; n++) {
      const i = reverse ? row.length - 1 - n : n;
      sums[i] = exclusive ? sum : sum + at(row, i);
      sum += at(row, i);
    }
    return sums;
  });
}
