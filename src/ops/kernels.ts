import { bytesOf, type Gpu, type GpuArray, isHalf, showShape } from "../array/index.ts";
import { GpuError, type Grid, grid1d, type KernelSpec } from "../gpu/index.ts";

/** Threads of a workgroup in kernels with one thread per element. */
const THREADS = 64;

/** The grid of a kernel with one thread for each of `n` elements. */
export function threads(n: number): Grid {
  return grid1d(Math.ceil(n / THREADS));
}

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
}

/**
 * A kernel written over rows, in its variants: four elements or one at a time, and a row per workgroup
 * (GPUs) or per subgroup without barriers (software adapters).
 */
export function rowKernel(
  shader: string,
  entry: string,
  constants: KernelSpec["constants"] = {},
): (gpu: Gpu, columns: number) => RowKernel {
  const variants = new Map<number, KernelSpec>();
  return (gpu, columns) => {
    const width = columns % 4 === 0 ? 4 : 1;
    const lanes = gpu.isSoftware ? gpu.subgroupSize : 0;
    const key = lanes * 8 + width;
    let kernel = variants.get(key);
    if (!kernel) {
      kernel = rowVariant({ shader, entry, constants }, width, lanes);
      variants.set(key, kernel);
    }
    return { kernel, columns: columns / width, width };
  };
}

function rowVariant(base: KernelSpec, width: 1 | 4, lanes: number): KernelSpec {
  const uses: Record<string, string> = {};
  if (width === 1) uses["lib/vec4"] = "lib/scalar";
  if (lanes === 0) return { ...base, uses };
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
    columns % 4 === 0 ? { kernel: four, columns: columns / 4, width: 4 } : { kernel: one, columns, width: 1 };
}

const fillKernel: KernelSpec = { shader: "copy", entry: "fill" };
const stridedKernel: KernelSpec = { shader: "copy", entry: "strided" };
const stridedHalvesKernel: KernelSpec = { shader: "copy", entry: "strided_halves" };
const addKernel: KernelSpec = { shader: "accumulate", entry: "add" };
const NO_STRIDES = {
  rank: 0,
  source_offset: 0,
  target_offset: 0,
  shape: [],
  source_strides: [],
  target_strides: [],
};

/** Sets every word of a bindable array to the same 32 bits. */
export function fill(gpu: Gpu, array: GpuArray, bits = 0): void {
  const n = Math.ceil(array.bytes / 4);
  if (n > 0) gpu.run(fillKernel, { destination: array }, { ...NO_STRIDES, n, constant: bits }, threads(n));
}

export function zeros(gpu: Gpu, shape: readonly number[]): GpuArray {
  const array = gpu.empty(shape);
  fill(gpu, array);
  return array;
}

/**
 * Copies `source` into `target`, both of the same shape, element size and strided in any way (a target of halves
 * without gaps, and from a whole word on). They must not share a storage.
 */
export function copyInto(gpu: Gpu, source: GpuArray, target: GpuArray): void {
  const n = source.size;
  if (n === 0) return;
  const halves = isHalf(target.dtype);
  if (halves && (!target.isContiguous || target.offset % 2 !== 0))
    throw new GpuError(`copy: a view into ${target.dtype} ${showShape(target.shape)} cannot be written to`);
  gpu.run(
    halves ? stridedHalvesKernel : stridedKernel,
    { source: wholeStorage(gpu, source), destination: wholeStorage(gpu, target) },
    {
      n,
      rank: source.shape.length,
      constant: 0,
      source_offset: source.offset,
      target_offset: target.offset,
      shape: source.shape,
      source_strides: source.strides,
      target_strides: target.strides,
    },
    threads(halves ? Math.ceil(n / 2) : n),
    { parts: { source, destination: target } },
  );
}

/** A contiguous copy. */
export function copyOf(gpu: Gpu, array: GpuArray): GpuArray {
  const copy = gpu.like(array);
  copyInto(gpu, array, copy);
  return copy;
}

/** The array itself where a kernel can bind it, else a contiguous copy. */
export function contiguous(gpu: Gpu, array: GpuArray): GpuArray {
  return array.isBindable ? array : copyOf(gpu, array);
}

/** total += x. `total` is bindable and shares no storage with x. */
export function accumulate(gpu: Gpu, total: GpuArray, x: GpuArray): void {
  const n = total.size;
  gpu.run(addKernel, { x: contiguous(gpu, x), total }, { n }, threads(groupsOfFour(n)));
}

function wholeStorage(gpu: Gpu, array: GpuArray): GpuArray {
  return gpu.view(array, [array.storage.bytes / bytesOf(array.dtype)], 0);
}
