import { type Gpu, type GpuArray, type Shape, sameShape } from "../array/index.ts";
import { grid1d, type KernelSpec } from "../gpu/index.ts";
import { type AxesAttrs, axesOf, middleOf, reducedShape, stretchedOver } from "./axes.ts";
import { defineOp } from "./define-op.ts";
import { columnKernel, contiguous, rowKernel } from "./kernels.ts";
import { labelOf, runRows, threads } from "./ranges.ts";
import { eachSlab } from "./slabs.ts";

const rowsKernel = rowKernel("reduce", "rows");
/** Columns of a thread on software adapters, which have enough threads at any size. */
const COLUMNS = 4;
const columnsKernels = {
  hardware: columnKernel("reduce", "columns"),
  software: columnKernel("reduce", "columns", { COLUMNS: `${COLUMNS}u` }),
};

/** Rows added up one after the other: short blocks keep the rounding error small and the parts parallel. */
const BLOCK = 64;
/** Elements of a row that one workgroup adds up. */
const LONG = 16_384;

/** Σ over the last dimension: x [rows, C] -> [rows]. Long rows are cut into parts, which a second call adds up. */
export function sumRows(gpu: Gpu, x: GpuArray, rows: number, columns: number): GpuArray {
  const most = gpu.maxBindingBytes / x.itemBytes;
  const long = Math.min(LONG, most);
  const parts = Math.max(1, Math.ceil(columns / long));
  const y = gpu.empty([rows, parts]);
  const { kernel, width } = rowsKernel(gpu, columns);
  const params = { outer: 0, inner: 0, block: long / width };
  if (columns <= most) {
    runRows(gpu, kernel, {
      rows,
      split: { x, y },
      params: (_first, n) => ({ ...params, rows: n * parts, columns: columns / width, parts }),
      count: null,
      grid: (n) => grid1d(n * parts),
    });
  } else {
    for (let row = 0; row < rows; row++) {
      // The parts of one row, of which the last one may be shorter.
      runRows(gpu, kernel, {
        rows: parts,
        split: {
          x: gpu.view(x, [columns], x.offset + row * columns),
          y: gpu.view(y, [parts], row * parts),
        },
        lengths: { x: long },
        params: (first, n) => ({
          ...params,
          rows: n,
          columns: Math.min(n * long, columns - first * long) / width,
          parts: n,
        }),
        count: null,
      });
    }
  }
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
    sumBlocks(gpu, from, partial, { outer, rows: left, parts, inner, block });
    if (parts === 1) return partial;
    from = partial;
    left = parts;
    block = BLOCK;
  }
}

interface Blocks {
  readonly outer: number;
  readonly rows: number;
  readonly parts: number;
  readonly inner: number;
  readonly block: number;
}

/** partial [outer, parts, inner] from x [outer, rows, inner]: each part adds up `block` rows. */
function sumBlocks(gpu: Gpu, x: GpuArray, partial: GpuArray, sizes: Blocks): void {
  const { outer, rows, parts, inner, block } = sizes;
  const most = gpu.maxBindingBytes / x.itemBytes;
  const { kernel, groups, across } = columnsKernel(gpu, inner);
  const params = { columns: 0, inner: groups, block };
  if (rows * inner <= most || block * inner > most) {
    eachSlab(
      gpu,
      labelOf(kernel),
      { outer, inner, arrays: { x, partial }, written: ["partial"] },
      (part, n, m) => {
        const own = columnsKernel(gpu, m);
        const all = { ...params, inner: own.groups, outer: n, rows, parts };
        gpu.run(own.kernel, part, all, threads(n * parts * own.across));
      },
    );
    return;
  }
  for (let o = 0; o < outer; o++) {
    // The blocks of one slab, of which the last one may be shorter.
    runRows(gpu, kernel, {
      rows: parts,
      split: {
        x: gpu.view(x, [rows, inner], x.offset + o * rows * inner),
        partial: gpu.view(partial, [parts, inner], partial.offset + o * parts * inner),
      },
      lengths: { x: block * inner },
      params: (first, n) => ({ ...params, outer: 1, rows: Math.min(n * block, rows - first * block) }),
      count: "parts",
      grid: (n) => threads(n * across),
    });
  }
}

interface ColumnsKernel {
  readonly kernel: KernelSpec;
  /** Columns, in groups of four where they are. */
  readonly groups: number;
  /** Threads of a part. */
  readonly across: number;
}

function columnsKernel({ isSoftware }: Gpu, inner: number): ColumnsKernel {
  const { kernel, columns: groups } = columnsKernels[isSoftware ? "software" : "hardware"](inner);
  return { kernel, groups, across: isSoftware ? Math.ceil(groups / COLUMNS) : groups };
}

/** Σ over `axes` (as axesOf gives them), as `shape`; as the gradient of the op's input `i`, where that is given. */
export function sumAxes(
  gpu: Gpu,
  given: GpuArray,
  axes: readonly number[],
  shape: Shape,
  i?: number,
): GpuArray {
  const { x, outer, rows, inner } = middleOf(gpu, given, axes);
  if (inner === 1) return gpu.view(sumRows(gpu, x, outer, rows), shape);
  const into = i === undefined ? null : gpu.emptyFor(i, shape);
  return gpu.view(sumMiddle(gpu, x, outer, rows, inner, { into }), shape);
}

/**
 * Adds up what broadcasting had stretched: a gradient of `shape` from one of a larger shape; that of the op's input
 * `i`, where that is given.
 */
export function sumTo(gpu: Gpu, dy: GpuArray, shape: Shape, i?: number): GpuArray {
  if (sameShape(dy.shape, shape)) return dy;
  const lead = dy.shape.length - shape.length;
  const axes: number[] = [];
  dy.shape.forEach((n, i) => {
    if (i < lead || (shape[i - lead] === 1 && n !== 1)) axes.push(i);
  });
  return gpu.view(sumAxes(gpu, contiguous(gpu, dy), axes, shape, i), shape);
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
