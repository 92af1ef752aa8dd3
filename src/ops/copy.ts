import {
  broadcastStrides,
  type Gpu,
  type GpuArray,
  isHalf,
  type Shape,
  sameShape,
  showShape,
} from "../array/index.ts";
import { GpuError, grid1d, type KernelSpec } from "../gpu/index.ts";
import { boxesOf, spanOf } from "./boxes.ts";

const stridedKernel: KernelSpec = { shader: "copy", entry: "strided" };
const stridedHalvesKernel: KernelSpec = { shader: "copy", entry: "strided_halves" };

/**
 * Copies `source` into `target`, both of the same shape, element size and strided in any way (a target of halves
 * without gaps, and from a whole word on). They must not share a storage. One dispatch, or one for each part of the
 * shape that lies in one chunk of both.
 */
export function copyInto(gpu: Gpu, source: GpuArray, target: GpuArray): void {
  if (source.size === 0) return;
  if (isHalf(target.dtype)) {
    copyHalves(gpu, source, target);
    return;
  }
  if (isWhole(source, target)) {
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

/** A contiguous array of a shape that `x` broadcasts to: `x` itself where it has that shape. */
export function stretched(gpu: Gpu, x: GpuArray, shape: Shape): GpuArray {
  if (sameShape(x.shape, shape)) return contiguous(gpu, x);
  return contiguous(gpu, gpu.view(x, shape, x.offset, broadcastStrides(x.shape, x.strides, shape)));
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
    first: 0,
    source_first: 0,
    source_length: 0,
    source_offset: sourceStart % source.chunkLength,
    target_offset: targetStart % target.chunkLength,
    shape,
    source_strides: asWords(source.strides),
    target_strides: asWords(target.strides),
  };
  const arrays = {
    source: chunkAt(gpu, source, sourceStart),
    destination: chunkAt(gpu, target, targetStart),
  };
  const { source_offset, target_offset } = params;
  const parts = isWhole(source, target)
    ? { source, destination: target }
    : {
        source: { shape, dtype: source.dtype, offset: source_offset, strides: source.strides },
        destination: { shape, dtype: target.dtype, offset: target_offset, strides: target.strides },
      };
  gpu.run(stridedKernel, arrays, params, grid1d(Math.ceil(n / 64)), { parts });
}

/** Whether one binding holds either storage. */
function isWhole(source: GpuArray, target: GpuArray): boolean {
  return source.storage.chunkCount === 1 && target.storage.chunkCount === 1;
}

/**
 * Elements of 16 bits, two to a word: each chunk of the target is filled from each chunk of the source in turn, which
 * leaves the other elements of a word alone.
 */
function copyHalves(gpu: Gpu, source: GpuArray, target: GpuArray): void {
  if (!target.isContiguous || target.offset % 2 !== 0)
    throw new GpuError(`copy: a view into ${target.dtype} ${showShape(target.shape)} cannot be written to`);
  const { low, high } = spanOf(source.shape, source.strides);
  const end = source.offset + high;
  for (let first = 0, n = 0; first < target.size; first += n) {
    const place = target.offset + first;
    n = Math.min(target.size - first, target.chunkLength - (place % target.chunkLength));
    let from = source.offset + low;
    for (; from <= end; from = (Math.floor(from / source.chunkLength) + 1) * source.chunkLength) {
      gpu.scope(
        () => copyHalvesFrom(gpu, source, target, first, n, from),
        () => [],
      );
    }
  }
}

/** Copies the elements first .. first + n that lie in the chunk of the source that holds element `from`. */
function copyHalvesFrom(
  gpu: Gpu,
  source: GpuArray,
  target: GpuArray,
  first: number,
  n: number,
  from: number,
): void {
  const chunk = chunkAt(gpu, source, from);
  const place = target.offset + first;
  const params = {
    n,
    rank: source.shape.length,
    constant: 0,
    first,
    source_first: chunk.offset,
    source_length: chunk.size,
    source_offset: source.offset,
    target_offset: place % target.chunkLength,
    shape: source.shape,
    source_strides: asWords(source.strides),
    target_strides: asWords(target.strides),
  };
  const arrays = { source: chunk, destination: chunkAt(gpu, target, place) };
  const work = isWhole(source, target) ? { parts: { source, destination: target } } : undefined;
  gpu.run(stridedHalvesKernel, arrays, params, grid1d(Math.ceil(n / 2 / 64)), work);
}

/** Strides as a shader adds them, modulo 2^32: those of a flipped view are negative. */
function asWords(strides: readonly number[]): number[] {
  return strides.map((stride) => stride >>> 0);
}

/** The chunk of an array's storage that holds one of its elements. */
function chunkAt(gpu: Gpu, array: GpuArray, element: number): GpuArray {
  const { storage, chunkLength, itemBytes } = array;
  const start = Math.floor(element / chunkLength) * chunkLength;
  return gpu.view(array, [Math.min(chunkLength, storage.bytes / itemBytes - start)], start);
}
