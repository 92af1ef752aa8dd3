import type { Gpu, GpuArray } from "../array/index.ts";
import { grid1d, type KernelSpec } from "../gpu/index.ts";
import { boxesOf } from "./boxes.ts";

const stridedKernel: KernelSpec = { shader: "copy", entry: "strided" };

/**
 * Copies `source` into `target`, both of the same shape and strided in any way. They must not share a storage.
 * One dispatch, or one for each part of the shape that lies in one chunk of both.
 */
export function copyInto(gpu: Gpu, source: GpuArray, target: GpuArray): void {
  if (source.size === 0) return;
  if (source.storage.chunks.length === 1 && target.storage.chunks.length === 1) {
    copyBox(gpu, source, target, source.shape, source.offset, target.offset);
    return;
  }
  for (const { shape, offsets } of boxesOf(source.shape, [source, target])) {
    gpu.scope(
      () => copyBox(gpu, source, target, shape, offsets[0] as number, offsets[1] as number),
      () => [],
    );
  }
}

/** The array itself where a kernel can bind it, else a contiguous copy. */
export function contiguous(gpu: Gpu, array: GpuArray): GpuArray {
  if (array.isBindable) return array;
  const copy = gpu.like(array);
  copyInto(gpu, array, copy);
  return copy;
}

/** Copies a part of the shape that begins at two elements of the storages and stays in their chunks. */
function copyBox(
  gpu: Gpu,
  source: GpuArray,
  target: GpuArray,
  shape: readonly number[],
  sourceStart: number,
  targetStart: number,
): void {
  let n = 1;
  for (const size of shape) n *= size;
  const params = {
    n,
    rank: shape.length,
    constant: 0,
    source_offset: sourceStart % source.chunkLength,
    target_offset: targetStart % target.chunkLength,
    shape,
    source_strides: source.strides,
    target_strides: target.strides,
  };
  const arrays = {
    source: chunkAt(gpu, source, sourceStart),
    destination: chunkAt(gpu, target, targetStart),
  };
  gpu.run(stridedKernel, arrays, params, grid1d(Math.ceil(n / 64)));
}

/** The chunk of an array's storage that holds one of its elements. */
function chunkAt(gpu: Gpu, array: GpuArray, element: number): GpuArray {
  const { storage, chunkLength, itemBytes } = array;
  const start = Math.floor(element / chunkLength) * chunkLength;
  return gpu.view(array, [Math.min(chunkLength, storage.bytes / itemBytes - start)], start);
}
