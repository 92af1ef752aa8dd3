import { normaliseAxis, type Shape, sameShape, showShape, sizeOf } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { concat, expand, reshape, slice } from "./functions.ts";
import { tidy } from "./scope.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Cutting, joining and turning tensors. What is a view shares memory with its input. */

/**
 * Pieces of x along a dimension, which are views: of `size` elements each (the last may be shorter), or of the given
 * sizes, whose sum is that dimension.
 */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  const i = normaliseAxis("split", axis, x.shape.length);
  const length = x.shape[i] as number;
  const list = typeof sizes === "number" ? piecesOf(length, sizes) : sizes;
  if (!list.every((n) => Number.isInteger(n) && n >= 0) || list.reduce((a, b) => a + b, 0) !== length) {
    throw new ShapeError(
      `split: sizes ${showShape(list)} do not fill dimension ${axis} of ${showShape(x.shape)} (${length})`,
    );
  }
  let at = 0;
  return list.map((n) => {
    at += n;
    return slice(x, i, at - n, at);
  });
}

/** x cut along a dimension into `count` views of equal size; fewer, and a shorter last one, where it does not divide. */
export function chunk(x: Tensor, count: number, axis = 0): Tensor[] {
  const i = normaliseAxis("chunk", axis, x.shape.length);
  if (!Number.isInteger(count) || count < 1) throw new ShapeError(`chunk: ${count} is no number of chunks`);
  const size = Math.ceil((x.shape[i] as number) / count);
  // Nothing is cut into `count` pieces of nothing.
  return split(x, size === 0 ? new Array<number>(count).fill(0) : size, i);
}

function piecesOf(length: number, size: number): number[] {
  if (!Number.isInteger(size) || size < 1) throw new ShapeError(`split: ${size} is no size of a piece`);
  const pieces: number[] = [];
  for (let at = 0; at < length; at += size) pieces.push(Math.min(size, length - at));
  return pieces.length > 0 ? pieces : [0];
}

/** Tensors of one shape along a new dimension. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  for (const { shape } of tensors) {
    const first = tensors[0]?.shape ?? shape;
    if (!sameShape(shape, first))
      throw new ShapeError(`stack: ${showShape(first)} and ${showShape(shape)} differ in shape`);
  }
  return tidy(() =>
    concat(
      tensors.map((x) => {
        const i = normaliseAxis("stack", axis, x.shape.length + 1);
        return reshape(x, inserted(x.shape, i));
      }),
      axis,
    ),
  );
}

/** x with a dimension of size 1 before dimension `axis`: a view where x is contiguous. Negative: from the new end. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  return reshape(x, inserted(x.shape, normaliseAxis("unsqueeze", axis, x.shape.length + 1)));
}

function inserted(shape: Shape, axis: number): number[] {
  return [...shape.slice(0, axis), 1, ...shape.slice(axis)];
}

/** x without dimensions of size 1: all of them, or the one named, which is kept where it is longer. */
export function squeeze(x: Tensor, axis?: number): Tensor {
  const only = axis === undefined ? null : normaliseAxis("squeeze", axis, x.shape.length);
  return reshape(
    x,
    x.shape.filter((n, d) => n !== 1 || (only !== null && d !== only)),
  );
}

/** Dimensions from `start` to `end` (included) made one: a view where x is contiguous. A scalar becomes [1]. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  if (x.shape.length === 0) return reshape(x, [1]);
  const first = normaliseAxis("flatten", start, x.shape.length);
  const last = normaliseAxis("flatten", end, x.shape.length);
  if (first > last)
    throw new ShapeError(`flatten: dimension ${start} comes after ${end} of ${showShape(x.shape)}`);
  const middle = sizeOf(x.shape.slice(first, last + 1));
  return reshape(x, [...x.shape.slice(0, first), middle, ...x.shape.slice(last + 1)]);
}

/** x inside a border of `value`: one [before, after] for each dimension. */
export function pad(x: Tensor, widths: ops.PadAttrs["widths"], value = 0): Tensor {
  return apply(ops.pad, [x], { widths, value });
}

/** x with the order of some dimensions reversed: a copy. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  return apply(ops.flip, [x], { axes: typeof axes === "number" ? [axes] : axes });
}

/**
 * x repeated along each dimension: repeats [2, 3] makes a [4, 5] tensor [8, 15]. Repeats and dimensions are aligned at
 * the end; missing ones are 1.
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  if (!repeats.every((n) => Number.isInteger(n) && n >= 0))
    throw new ShapeError(`tile: repeats ${showShape(repeats)} are not whole numbers of 0 or more`);
  return tidy(() => {
    const lead = Math.max(repeats.length - x.shape.length, 0);
    let y = reshape(x, [...new Array<number>(lead).fill(1), ...x.shape]);
    const skipped = y.shape.length - repeats.length;
    repeats.forEach((n, i) => {
      if (n !== 1) y = tiled(y, skipped + i, n);
    });
    return y;
  });
}

function tiled(x: Tensor, axis: number, n: number): Tensor {
  const outer = sizeOf(x.shape.slice(0, axis));
  const inner = sizeOf(x.shape.slice(axis));
  const once = reshape(x, [outer, 1, inner]);
  return reshape(
    expand(once, [outer, n, inner]),
    x.shape.map((size, d) => (d === axis ? size * n : size)),
  );
}
