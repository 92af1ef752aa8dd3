import {
  type DType,
  isFloating,
  isHalf,
  knownOptions,
  normaliseAxis,
  type OptionNames,
  sizeOf,
} from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { full } from "./create.ts";
import { checkFloats } from "./describe.ts";
import { concat, flatSqrt, square } from "./functions.ts";
import { noGrad, tidy } from "./scope.ts";
import { eq, ne } from "./selection.ts";
import { apply, type Tensor } from "./tensor.ts";
import { type Axes, REDUCE, type ReduceOptions } from "./tensor-options.ts";

/** Reductions over some dimensions (all, when none are given), running sums, and what is composed of them. */

/** The largest element, NaN where one is NaN. The gradient is shared evenly among equal largest ones. */
export const max = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => x.max(axes, options);
/** The smallest element, like max. */
export const min = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => x.min(axes, options);
/** Where the largest element along `axis` lies, of equals the first: i32. Without axis: into all elements in order. */
export const argmax = (x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor =>
  x.argmax(axis, options);
/** Where the smallest element lies, like argmax. */
export const argmin = (x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor =>
  apply(ops.argmin, [x], { ...knownOptions("argmin", options, REDUCE), axis });
/** log Σ exp(x), without overflow. */
export const logSumExp = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor =>
  apply(ops.logSumExp, [x], { ...knownOptions("logSumExp", options, REDUCE), axes: axesOf(axes) });
/** Running sums along `axis`; exclusive: without the element itself; reverse: from the end. */
export const cumsum = (x: Tensor, axis: number, options: CumsumOptions = {}): Tensor =>
  apply(ops.cumsum, [x], { ...knownOptions("cumsum", options, CUMSUM), axis });
type CumsumOptions = Omit<ops.CumsumAttrs, "axis">;
const CUMSUM: OptionNames<CumsumOptions> = { exclusive: true, reverse: true };

/** Whether some element is not 0 (or false): bool. Of nothing false. */
export function any(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  knownOptions("any", options, REDUCE);
  checkedAxes("any", x, axes);
  // Sums of zeros and ones are 0 only where all are.
  return tidy(() => ne(ne(x, 0).to("f32").sum(axes, options), 0));
}

/** Whether no element is 0 (or false): bool. Of nothing true. */
export function all(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  knownOptions("all", options, REDUCE);
  checkedAxes("all", x, axes);
  return tidy(() => eq(eq(x, 0).to("f32").sum(axes, options), 0));
}

export interface VarianceOptions extends ReduceOptions {
  /** Σ (x - mean)² is divided by n - correction. Default 1, an unbiased estimate; 0: the mean square. */
  readonly correction?: number;
}
const VARIANCE: OptionNames<VarianceOptions> = { keepDim: true, correction: true };

/**
 * Σ (x - mean)² / (n - correction), in two passes: the mean first, and what rounding has left of it once more, so that it
 * holds where the mean is far above the deviation. In f32 for halves.
 */
export function variance(x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor {
  const divisor = divisorOf("variance", x, axes, options);
  return inFull("variance", x, (wide) => squaredDeviation(wide, axes, options, divisor));
}

/** The square root of the variance. Its gradient is 0 where it is 0. */
export function std(x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor {
  const divisor = divisorOf("std", x, axes, options);
  return inFull("std", x, (wide) => flatSqrt(squaredDeviation(wide, axes, options, divisor)));
}

/** √Σ x², the Euclidean norm. Its gradient is 0 where it is 0. Overflows where a square does, from 1.8e19 on. */
export function norm(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  knownOptions("norm", options, REDUCE);
  checkedAxes("norm", x, axes);
  return inFull("norm", x, (wide) => flatSqrt(square(wide).sum(axes, options)));
}

/**
 * The product over some dimensions, 1 of nothing: halves are multiplied with one another until one element is left, so
 * that the gradient holds where elements are 0. In f32 for halves.
 */
export function prod(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const { keepDim = false } = knownOptions("prod", options, REDUCE);
  const reduced = new Set(checkedAxes("prod", x, axes));
  const all = [...x.shape.keys()];
  const kept = all.filter((axis) => !reduced.has(axis));
  const result = keepDim
    ? x.shape.map((n, axis) => (reduced.has(axis) ? 1 : n))
    : kept.map((axis) => x.shape[axis] as number);
  return tidy(() => {
    const wide = isHalf(x.dtype) ? x.to("f32") : x;
    const [outer, n] = [sizeOf(result), sizeOf([...reduced].map((axis) => x.shape[axis] as number))];
    if (n === 0 && !isFloating(x.dtype)) return full(x.gpu, result, 1, { dtype: x.dtype });
    // Of nothing, by way of a sum, so that the gradient (of no elements) has a way back.
    if (n === 0)
      return wide
        .sum([...reduced], { keepDim })
        .add(1)
        .to(x.dtype);
    let y = wide.permute(...kept, ...reduced).reshape(outer, n);
    while ((y.shape[1] as number) > 1) y = halved(y);
    return y.reshape(...result).to(x.dtype);
  });
}

/** [outer, n] -> [outer, ceil(n / 2)]: column j times column j + ceil(n / 2), where there is one. */
function halved(x: Tensor): Tensor {
  const n = x.shape[1] as number;
  const half = Math.floor(n / 2);
  const pairs = x.slice(1, 0, half).mul(x.slice(1, n - half, n));
  return n % 2 === 0 ? pairs : concat([pairs, x.slice(1, half, half + 1)], 1);
}

/** Computes in f32, and rounds once. */
function inFull(op: string, x: Tensor, body: (wide: Tensor) => Tensor): Tensor {
  checkFloats(op, x);
  const dtype: DType = x.dtype;
  return tidy(() => body(dtype === "f16" || dtype === "bf16" ? x.to("f32") : x).to(dtype));
}

function squaredDeviation(
  x: Tensor,
  axes: Axes | undefined,
  { keepDim = false }: ReduceOptions,
  divisor: number,
): Tensor {
  // The sum of squares is least at the mean: moving the mean changes nothing, so it needs no gradient.
  const centred = (v: Tensor): Tensor => v.sub(noGrad(() => v.mean(axes, { keepDim: true })));
  return square(centred(centred(x)))
    .sum(axes, { keepDim })
    .mul(1 / divisor);
}

/** n - correction. */
function divisorOf(op: string, x: Tensor, axes: Axes | undefined, options: VarianceOptions): number {
  const { correction = 1 } = knownOptions(op, options, VARIANCE);
  const count = sizeOf(checkedAxes(op, x, axes).map((axis) => x.shape[axis] as number));
  if (!(count - correction > 0))
    throw new ShapeError(`${op}: ${count} elements with correction ${correction} leave nothing to divide by`);
  return count - correction;
}

/** The dimensions that are reduced; one that x has not is refused before anything is recorded. */
function checkedAxes(op: string, { shape }: Tensor, axes: Axes | undefined): number[] {
  const list = axesOf(axes) ?? [...shape.keys()];
  return [...new Set(list.map((axis) => normaliseAxis(op, axis, shape.length)))];
}

function axesOf(axes: Axes | undefined): readonly number[] | undefined {
  return typeof axes === "number" ? [axes] : axes;
}
