import { type DType, type Gpu, type GpuArray, type Shape, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { addRows } from "./add-rows.ts";
import { defineOp } from "./define-op.ts";
import { zeros } from "./kernels.ts";
import { eachRange, labelOf, runRows, threads } from "./ranges.ts";
import { storedAs } from "./stored.ts";

const kernels = new Map<string, KernelSpec>();

/** The look-up in a table of f32 or halves, of rows in groups of `width`. */
function kernelOf(type: DType, width: 1 | 4): KernelSpec {
  const key = `${type} ${width}`;
  let kernel = kernels.get(key);
  if (!kernel) {
    const halves = storedAs("table", type, width);
    kernel = {
      shader: "embedding",
      entry: "forward",
      uses: width === 1 ? { "lib/vec4": "lib/scalar" } : {},
      constants: halves ? { stored: halves.stored, row_at: halves.at("i") } : {},
    };
    kernels.set(key, kernel);
  }
  return kernel;
}

export interface EmbeddingAttrs {
  /** The row of this id gets no gradient from the look-up. */
  readonly paddingIndex?: number | undefined;
}

interface EmbeddingSaved {
  readonly [name: string]: unknown;
  readonly ids: GpuArray;
  readonly table: Shape;
}

/**
 * Rows of a table: y[i] = table[ids[i]]. table [V, C], of halves too, ids [...] i32 -> [..., C] f32.
 * An id out of range gives a row of NaN. The gradient adds rows with equal ids in their order; those of ids out of
 * range are left out.
 */
export const embedding = defineOp<readonly [table: GpuArray, ids: GpuArray], EmbeddingAttrs, EmbeddingSaved>({
  name: "embedding",
  half: { inputs: [0] },
  result: () => "f32",
  dtypes: ["f32", "i32"],
  shape([table, ids]) {
    if (table.length !== 2)
      throw new ShapeError(`embedding: table ${showShape(table)} is not [rows, columns]`);
    return [...ids, table[1] as number];
  },
  forward(gpu, [table, ids], _attrs, _needs, shape) {
    const y = gpu.empty(shape);
    lookUp(gpu, table, ids, y);
    return { output: y, saved: { ids, table: table.shape } };
  },
  backward(gpu, dy, { ids, table }, { paddingIndex = -1 }, [needsTable]) {
    if (!needsTable) return [null, null];
    const dtable = gpu.totalFor(0, table) ?? zeros(gpu, table);
    addRows(gpu, dy, { indices: ids, bound: table[0] as number, skip: paddingIndex }, dtable);
    return [dtable, null];
  },
});

/** y[i] = table[ids[i]]: table [V, C], ids [n] i32 -> y [n, C]. */
function lookUp(gpu: Gpu, table: GpuArray, ids: GpuArray, y: GpuArray): void {
  const all = table.shape[0] as number;
  const width = (table.shape[1] as number) % 4 === 0 ? 4 : 1;
  const columns = (table.shape[1] as number) / width;
  const kernel = kernelOf(table.dtype, width);
  const ranges = { rows: all, arrays: { table } };
  eachRange(gpu, labelOf(kernel), ranges, NOTHING, (parts, first, rows) => {
    runRows(gpu, kernel, {
      rows: ids.size,
      split: { ids, y },
      whole: parts,
      params: { columns, first, rows, all },
      count: "n",
      grid: (n) => threads(n * columns),
    });
  });
}

const NOTHING: ReadonlySet<string> = new Set();
