import { type Gpu, type GpuArray, type Shape, sameShape } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { grid1d } from "../gpu/index.ts";
import { type AxesAttrs, axesOf, middleOf, reducedShape, stretchedOver } from "./axes.ts";
import { defineOp } from "./define-op.ts";
import { contiguous, rowKernel, threads } from "./kernels.ts";

const rowsKernel = rowKernel("reduce", "rows");
const columnsOfFour: KernelSpec = { shader: "reduce", entry: "columns" };
const columnsOfOne: KernelSpec = { shader: "reduce", entry: "columns", uses: { "lib/vec4": "lib/scalar" } };

/** Rows added up one after the other: short blocks keep the rounding error small and the parts parallel. */
const BLOCK = 64;
/** Elements of a row that one workgroup adds up. */
const LONG = 16_384;

/** Σ over the last dimension: x [rows, C] -> [rows]. Long rows are cut into parts, which a second call adds up. */
export function sumRows(gpu: Gpu, x: GpuArray, rows: number, columns: number): GpuArray {
  const parts = Math.max(1, Math.ceil(columns / LONG));
  const y = gpu.empty([rows, parts]);
  const { kernel, columns: groups, width } = rowsKernel(gpu, columns);
  const params = { rows: rows * parts, columns: groups, outer: 0, inner: 0, block: LONG / width, parts };
  if (rows > 0) gpu.run(kernel, { x, y }, params, grid1d(rows * parts));
  return parts === 1 ? y : sumRows(gpu, y, rows, parts);
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

/** Σ over `axes` (as axesOf gives them), as `shape`. */
export function sumAxes(gpu: Gpu, given: GpuArray, axes: readonly number[], shape: Shape): GpuArray {
  const { x, outer, rows, inner } = middleOf(gpu, given, axes);
  const y = inner === 1 ? sumRows(gpu, x, outer, rows) : sumMiddle(gpu, x, outer, rows, inner);
  return gpu.view(y, shape);
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

/** Σ x over some dimensions. Accumulates in f32, in blocks of blocks. */
export const sum = defineOp<readonly [GpuArray], AxesAttrs, { readonly shape: Shape }>({
  name: "sum",
  shape: ([x], attrs) => reducedShape("sum", x, attrs),
  forward(gpu, [x], { axes }, _needs, shape) {
    const list = axesOf("sum", x.shape.length, axes);
    const output = list.length === 0 ? gpu.view(x, shape) : sumAxes(gpu, x, list, shape);
    return { output, saved: { shape: x.shape } };
  },
  // Every element of a sum gets the same gradient: a stretched view.
  backward: (gpu, dy, { shape }, { axes }) => [
    stretchedOver(gpu, dy, shape, axesOf("sum", shape.length, axes)),
  ],
});
