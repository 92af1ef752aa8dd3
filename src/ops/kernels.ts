import type { Gpu, GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { contiguous } from "./copy.ts";
import { runRows, threads } from "./ranges.ts";

export { addInto, contiguous, copyInto, copyOf } from "./copy.ts";
export { threads } from "./ranges.ts";

/** Elements in groups of four, rounded up: buffers are padded, so the rest is harmless. */
export function groupsOfFour(n: number): number {
  return Math.ceil(n / 4);
}

/** Row kernels for a row of `columns`: which files and how many elements a lane takes at a time. */
export interface RowKernel {
  readonly kernel: KernelSpec;
  /** Columns in groups of `width`. */
  readonly columns: number;
  readonly width: 1 | 4;
  /** Rows of one workgroup. */
  readonly together: number;
}

/**
 * A kernel written over rows, in its variants: four elements or one at a time, and a row per workgroup
 * (GPUs, by subgroups where they have them) or per subgroup without barriers (software adapters, where a subgroup takes `together` rows).
 */
export function rowKernel(
  shader: string,
  entry: string,
  constants: KernelSpec["constants"] = {},
  together = 1,
): (gpu: Gpu, columns: number) => RowKernel {
  const variants = new Map<number, KernelSpec>();
  return (gpu, columns) => {
    const width = columns % 4 === 0 ? 4 : 1;
    const lanes = gpu.isSoftware ? gpu.subgroupSize : 0;
    const key = 16 * lanes + 2 * width + Number(gpu.hasSubgroups);
    let kernel = variants.get(key);
    if (!kernel) {
      const own = together > 1 && lanes > 0 ? { ...constants, ROWS: `${together}u` } : constants;
      kernel = rowVariant({ shader, entry, constants: own }, width, lanes, gpu.hasSubgroups);
      variants.set(key, kernel);
    }
    return { kernel, columns: columns / width, width, together: lanes > 0 ? together : 1 };
  };
}

function rowVariant(base: KernelSpec, width: 1 | 4, lanes: number, hasSubgroups: boolean): KernelSpec {
  const uses: Record<string, string> = {};
  if (width === 1) uses["lib/vec4"] = "lib/scalar";
  if (lanes === 0) {
    if (hasSubgroups) uses["lib/row_workgroup"] = "lib/row_subgroups";
    return { ...base, uses };
  }
  uses["lib/row_workgroup"] = "lib/row_subgroup";
  return { ...base, uses, constants: { ...base.constants, LANES: `${lanes}u` } };
}

/** A kernel with a thread per element or group of four, in both widths. */
export function columnKernel(
  shader: string,
  entry: string,
  constants: KernelSpec["constants"] = {},
): (columns: number) => RowKernel {
  const four: KernelSpec = { shader, entry, constants };
  const one: KernelSpec = { shader, entry, constants, uses: { "lib/vec4": "lib/scalar" } };
  return (columns) =>
    columns % 4 === 0
      ? { kernel: four, columns: columns / 4, width: 4, together: 1 }
      : { kernel: one, columns, width: 1, together: 1 };
}

const fillKernel: KernelSpec = { shader: "fill", entry: "words" };
const addKernel: KernelSpec = { shader: "accumulate", entry: "add" };
/** Sets every word of a bindable array to the same 32 bits. */
export function fill(gpu: Gpu, array: GpuArray, bits = 0): void {
  runRows(gpu, fillKernel, {
    rows: Math.ceil(array.bytes / 4),
    split: { destination: array },
    lengths: { destination: 4 / array.itemBytes },
    params: { constant: bits },
    count: "n",
    grid: (n) => threads(Math.ceil(n / 16)),
  });
}

export function zeros(gpu: Gpu, shape: readonly number[]): GpuArray {
  const array = gpu.empty(shape);
  fill(gpu, array);
  return array;
}

/** total += x. `total` is bindable and shares no storage with x. */
export function accumulate(gpu: Gpu, total: GpuArray, x: GpuArray): void {
  runRows(gpu, addKernel, {
    rows: total.size,
    split: { x: contiguous(gpu, x), total },
    params: {},
    count: "n",
    grid: (n) => threads(Math.ceil(n / 16)),
  });
}
