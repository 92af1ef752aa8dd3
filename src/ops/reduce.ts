import { type Gpu, type GpuArray, normaliseAxis, type Shape, sameShape, sizeOf } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { contiguous, copyInto, rowKernel } from "./kernels.ts";
import { boundPart, runRows, threads } from "./ranges.ts";

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

/** Σ over the last dimension: x [rows, C] -> [rows]. A row beyond a binding is added up in pieces. */
export function sumRows(gpu: Gpu, x: GpuArray, rows: number, columns: number): GpuArray {
  if (columns * x.itemBytes > gpu.maxBindingBytes) return sumPieces(gpu, x, rows, columns);
  const y = gpu.empty([rows]);
  const { kernel, columns: groups } = rowsKernel(gpu, columns);
  runRows(gpu, kernel, { rows, split: { x, y }, params: { ...NONE, columns: groups } });
  return y;
}

const NONE = { columns: 0, outer: 0, inner: 0, block: 0, parts: 0 };

/** Each row as a sum of sums over pieces of at most a chunk, in their order. */
function sumPieces(gpu: Gpu, x: GpuArray, rows: number, columns: number): GpuArray {
  const most = x.chunkLength;
  const pieces = Math.ceil(columns / most);
  const sums = gpu.empty([rows, pieces]);
  for (let row = 0; row < rows; row++) {
    for (let piece = 0; piece < pieces; piece++) {
      gpu.scope(
        () => {
          const first = piece * most;
          const n = Math.min(most, columns - first);
          const part = boundPart(gpu, gpu.view(x, [n], x.offset + row * columns + first));
          copyInto(gpu, sumRows(gpu, part, 1, n), gpu.view(sums, [1], row * pieces + piece));
        },
        () => [],
      );
    }
  }
  return sumRows(gpu, sums, rows, pieces);
}

/** Σ over the middle: x [outer, R, inner] -> [outer, inner]. */
export function sumMiddle(gpu: Gpu, x: GpuArray, outer: number, rows: number, inner: number): GpuArray {
  let from = x;
  let left = rows;
  for (;;) {
    const parts = Math.max(1, Math.ceil(left / BLOCK));
    const partial = gpu.empty([outer, parts, inner]);
    sumBlocks(gpu, from, partial, { outer, rows: left, parts, inner });
    if (parts === 1) return partial;
    from = partial;
    left = parts;
  }
}

interface Middle {
  readonly outer: number;
  readonly rows: number;
  readonly parts: number;
  readonly inner: number;
}

/** partial [outer, parts, inner] from x [outer, rows, inner]: each part adds up BLOCK rows. */
function sumBlocks(gpu: Gpu, x: GpuArray, partial: GpuArray, { outer, rows, parts, inner }: Middle): void {
  const width = inner % 4 === 0 ? 4 : 1;
  const kernel = width === 4 ? columnsOfFour : columnsOfOne;
  const groups = inner / width;
  const params = { columns: 0, inner: groups, block: BLOCK };
  const most = gpu.maxBindingBytes / x.itemBytes;
  if (rows * inner <= most) {
    runRows(gpu, kernel, {
      rows: outer,
      split: { x, partial },
      params: { ...params, rows, parts },
      count: "outer",
      grid: (n) => threads(n * parts * groups),
    });
    return;
  }
  for (let o = 0; o < outer; o++) {
    gpu.scope(
      () => {
        const slab = gpu.view(x, [rows, inner], x.offset + o * rows * inner);
        const sums = gpu.view(partial, [parts, inner], o * parts * inner);
        if (BLOCK * inner > most) sumWindows(gpu, slab, sums);
        else {
          runRows(gpu, kernel, {
            rows: parts,
            split: { x: slab, partial: sums },
            lengths: { x: BLOCK * inner },
            params: (first, n) => ({ ...params, outer: 1, rows: Math.min(n * BLOCK, rows - first * BLOCK) }),
            count: "parts",
            grid: (n) => threads(n * groups),
          });
        }
      },
      () => [],
    );
  }
}

/** sums [parts, inner] from x [rows, inner] where a binding does not hold a block of rows: in windows of columns. */
function sumWindows(gpu: Gpu, x: GpuArray, sums: GpuArray): void {
  const [rows, inner] = x.shape as [number, number];
  const most = Math.floor(gpu.maxBindingBytes / x.itemBytes / BLOCK);
  for (let first = 0; first < rows; first += BLOCK) {
    for (let column = 0; column < inner; column += most) {
      gpu.scope(
        () => {
          const n = Math.min(BLOCK, rows - first);
          const columns = Math.min(most, inner - column);
          const place = first * inner + column;
          const window = gpu.view(x, [n, columns], x.offset + place, [inner, 1]);
          const copy = gpu.empty([n, columns]);
          copyInto(gpu, window, copy);
          const at = sums.offset + (first / BLOCK) * inner + column;
          copyInto(gpu, sumMiddle(gpu, copy, 1, n, columns), gpu.view(sums, [1, 1, columns], at));
        },
        () => [],
      );
    }
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
