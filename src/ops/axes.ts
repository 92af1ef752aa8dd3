import { type Gpu, type GpuArray, normaliseAxis, type Shape, sizeOf } from "../array/index.ts";
import { contiguous } from "./kernels.ts";

/** `axes`: dimensions to reduce, counted from either end; undefined: all. `keepDim` leaves them with size 1. */
export interface AxesAttrs {
  readonly axes?: readonly number[] | undefined;
  readonly keepDim?: boolean | undefined;
}

/** The dimensions to reduce, in order and each once. */
export function axesOf(op: string, rank: number, axes: readonly number[] | undefined): number[] {
  const list = axes ? axes.map((axis) => normaliseAxis(op, axis, rank)) : [...Array(rank).keys()];
  return [...new Set(list)].sort((a, b) => a - b);
}

export function reducedShape(op: string, x: Shape, { axes, keepDim }: AxesAttrs): number[] {
  const reduced = new Set(axesOf(op, x.length, axes));
  return keepDim ? x.map((n, i) => (reduced.has(i) ? 1 : n)) : x.filter((_n, i) => !reduced.has(i));
}

/** An array around the dimensions that are reduced: [outer, rows, inner], the rows becoming one. */
export interface Middle {
  readonly x: GpuArray;
  readonly outer: number;
  readonly rows: number;
  readonly inner: number;
}

/** Where reduced dimensions are not neighbours, a copy with them at the end. `axes` as axesOf gives them. */
export function middleOf(gpu: Gpu, x: GpuArray, axes: readonly number[]): Middle {
  const first = axes[0] ?? 0;
  const end = (axes.at(-1) ?? -1) + 1;
  if (end - first === axes.length) {
    const size = (from: number, to?: number): number => sizeOf(x.shape.slice(from, to));
    return {
      x,
      outer: size(0, first),
      rows: size(first, first + axes.length),
      inner: size(first + axes.length),
    };
  }
  const order = reducedLast(x.shape, axes);
  const permuted = (list: readonly number[]): number[] => order.map((i) => list[i] as number);
  const moved = contiguous(gpu, gpu.view(x, permuted(x.shape), x.offset, permuted(x.strides)));
  const rows = sizeOf(axes.map((axis) => x.shape[axis] as number));
  return { x: moved, outer: sizeOf(x.shape.filter((_n, i) => !axes.includes(i))), rows, inner: 1 };
}

/** The dimensions with the reduced ones behind the others. */
function reducedLast(shape: Shape, axes: readonly number[]): number[] {
  return [...shape.keys()].filter((i) => !axes.includes(i)).concat(axes);
}

/** What middleOf has moved, in the order of `shape` again: a view. */
export function movedBack(gpu: Gpu, moved: GpuArray, shape: Shape, axes: readonly number[]): GpuArray {
  const strides = new Array<number>(shape.length);
  reducedLast(shape, axes).forEach((axis, i) => {
    strides[axis] = moved.strides[i] as number;
  });
  return gpu.view(moved, shape, moved.offset, strides);
}

/** The shape with reduced dimensions as 1, and the strides of a contiguous array of it stretched over x: a view of y. */
export function stretchedOver(gpu: Gpu, y: GpuArray, x: Shape, axes: readonly number[]): GpuArray {
  const open = x.map((n, i) => (axes.includes(i) ? 1 : n));
  const { strides } = gpu.view(y, open);
  return gpu.view(
    y,
    x,
    y.offset,
    open.map((n, i) => (n === 1 && x[i] !== 1 ? 0 : (strides[i] as number))),
  );
}

/** Elements of one thread in reductions without barriers: short, so that long rows are shared by many threads. */
const SHORT = 64;
const LONG = 256;

/**
 * How many parts a reduction of `rows` elements is cut into, step by step, down to 1: parts of about the square root,
 * so that two steps do up to 65,536 elements.
 */
export function partsOf(rows: number): number[] {
  const steps: number[] = [];
  let left = rows;
  do {
    const block = Math.min(LONG, Math.max(SHORT, Math.ceil(Math.sqrt(left))));
    left = Math.max(1, Math.ceil(left / block));
    steps.push(left);
  } while (left > 1);
  return steps;
}
