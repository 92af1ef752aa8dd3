import { type Gpu, type GpuArray, normaliseAxis, type Shape, sameShape, sizeOf } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { grid1d } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { contiguous, rowKernel, threads } from "./kernels.ts";

/** `axes`: dimensions to add up, counted from either end; undefined: all. `keepDim` leaves them with size 1. */
export interface SumAttrs {
  readonly axes?: readonly number[] | undefined;
  readonly keepDim?: boolean | undefined;
}

const rowsKernel = rowKernel("reduce", "rows");
const columnsOfFour: KernelSpec = { shader: "reduce", entry: "columns" };
const columnsOfOne: KernelSpec = { shader: "reduce", entry: "columns", uses: { "lib/vec4": "lib/scalar" } };

/** Rows added up one after the other: short blocks keep the rounding error small and the parts parallel. */
const BLOCK = 64;

/** Σ over the last dimension: x [rows, C] -> [rows]. */
export function sumRows(gpu: Gpu, x: GpuArray, rows: number, columns: number): GpuArray {
  const y = gpu.empty([rows]);
  const { kernel, columns: groups } = rowsKernel(gpu, columns);
  if (rows > 0)
    gpu.run(
      kernel,
      { x, y },
      { rows, columns: groups, outer: 0, inner: 0, block: 0, parts: 0 },
      grid1d(rows),
    );
  return y;
}

/**
 * Σ over the middle: x [outer, R, inner] -> [outer, inner]. `into`: the array to write to. `firstBlock`: rows of a part
 * where the rows themselves are added up, for the same bits as a kernel that has such parts.
 */
export function sumMiddle(
  gpu: Gpu,
  x: GpuArray,
  outer: number,
  rows: number,
  inner: number,
  { into, firstBlock = BLOCK }: { readonly into?: GpuArray | null; readonly firstBlock?: number } = {},
): GpuArray {
  let from = x;
  let left = rows;
  let block = firstBlock;
  for (;;) {
    const parts = Math.max(1, Math.ceil(left / block));
    const partial = (parts === 1 && into) || gpu.empty([outer, parts, inner]);
    const width = inner % 4 === 0 ? 4 : 1;
    const groups = inner / width;
    gpu.run(
      width === 4 ? columnsOfFour : columnsOfOne,
      { x: from, partial },
      { rows: left, columns: 0, outer, inner: groups, block, parts },
      threads(outer * parts * groups),
    );
    if (parts === 1) return partial;
    from = partial;
    left = parts;
    block = BLOCK;
  }
}

function sumAxes(gpu: Gpu, x: GpuArray, axes: readonly number[], shape: Shape): GpuArray {
  const reduced = new Set(axes);
  const rank = x.shape.length;
  const first = axes.length > 0 ? Math.min(...axes) : 0;
  const adjacent = axes.length > 0 && Math.max(...axes) - first + 1 === reduced.size;
  if (adjacent) {
    const outer = sizeOf(x.shape.slice(0, first));
    const rows = sizeOf(x.shape.slice(first, first + reduced.size));
    const inner = sizeOf(x.shape.slice(first + reduced.size));
    const y = inner === 1 ? sumRows(gpu, x, outer, rows) : sumMiddle(gpu, x, outer, rows, inner);
    return gpu.view(y, shape);
  }
  // Brings the reduced dimensions to the end.
  const order = [...Array(rank).keys()].filter((i) => !reduced.has(i)).concat(axes);
  const moved = gpu.view(
    x,
    order.map((i) => x.shape[i] as number),
    x.offset,
    order.map((i) => x.strides[i] as number),
  );
  const rows = sizeOf(shape);
  return gpu.view(sumRows(gpu, contiguous(gpu, moved), rows, rows === 0 ? 0 : x.size / rows), shape);
}

/** Adds up what broadcasting had stretched: a gradient of `shape` from one of a larger shape. */
export function sumTo(gpu: Gpu, dy: GpuArray, shape: Shape): GpuArray {
  if (sameShape(dy.shape, shape)) return dy;
  const lead = dy.shape.length - shape.length;
  const axes: number[] = [];
  dy.shape.forEach((n, i) => {
    if (i < lead || (shape[i - lead] === 1 && n !== 1)) axes.push(i);
  });
  return gpu.view(sumAxes(gpu, contiguous(gpu, dy), axes, shape), shape);
}

function allAxes(op: string, rank: number, axes: readonly number[] | undefined): number[] {
  const list = axes ? axes.map((axis) => normaliseAxis(op, axis, rank)) : [...Array(rank).keys()];
  return [...new Set(list)].sort((a, b) => a - b);
}

/** Σ x over some dimensions. Accumulates in f32, in blocks. */
export const sum = defineOp<readonly [GpuArray], SumAttrs, { readonly shape: Shape; readonly open: Shape }>({
  name: "sum",
  shape([x], { axes, keepDim }) {
    const reduced = new Set(allAxes("sum", x.length, axes));
    return keepDim ? x.map((n, i) => (reduced.has(i) ? 1 : n)) : x.filter((_n, i) => !reduced.has(i));
  },
  forward(gpu, [x], { axes }, _needs, shape) {
    const list = allAxes("sum", x.shape.length, axes);
    const reduced = new Set(list);
    const open = x.shape.map((n, i) => (reduced.has(i) ? 1 : n));
    const output = list.length === 0 ? gpu.view(x, shape) : sumAxes(gpu, x, list, shape);
    return { output, saved: { shape: x.shape, open } };
  },
  // Every element of a sum gets the same gradient: a stretched view.
  backward(gpu, dy, { shape, open }) {
    const strides = gpu.view(dy, open).strides;
    return [
      gpu.view(
        dy,
        shape,
        dy.offset,
        open.map((n, i) => (n === 1 && shape[i] !== 1 ? 0 : (strides[i] as number))),
      ),
    ];
  },
});
