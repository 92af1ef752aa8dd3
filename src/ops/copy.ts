import {
  broadcastStrides,
  type Gpu,
  type GpuArray,
  isHalf,
  type Shape,
  sameShape,
  showShape,
} from "../array/index.ts";
import { GpuError, type Grid, grid1d, type KernelSpec, type ParamValue, type Work } from "../gpu/index.ts";
import { boxesOf, spanOf } from "./boxes.ts";
import { type Dimension, inUnitsOf, type Steps, stepsOf, type Walks, walksOf } from "./walks.ts";

const halvesKernel: KernelSpec = { shader: "copy_halves", entry: "strided" };

/** A kernel for each way to walk. */
type MoveKernels = Readonly<Record<Steps["by"], KernelSpec>>;

const COPY: MoveKernels = {
  ones: { shader: "copy", entry: "strided" },
  fours: { shader: "copy", entry: "strided", constants: { Word: "vec4u" } },
  blocks: { shader: "copy_transposed", entry: "strided" },
};
const ADD: MoveKernels = {
  ones: { shader: "copy", entry: "strided", constants: { Word: "f32", moved: "old + next" } },
  fours: { shader: "copy", entry: "strided", constants: { Word: "vec4f", moved: "old + next" } },
  blocks: { shader: "copy_transposed", entry: "strided", constants: { Word: "vec4f", moved: "old + next" } },
};

/**
 * Copies `source` into `target`, both of the same shape, element size and strided in any way (a target of halves
 * without gaps, and from a whole word on). They must not share a storage. One dispatch, or one for each part of the
 * shape that lies in one chunk of both.
 */
export function copyInto(gpu: Gpu, source: GpuArray, target: GpuArray): void {
  if (source.size === 0) return;
  const elements = walksOf(source.shape, source, target);
  const words = isHalf(target.dtype) ? inUnitsOf(2, elements) : elements;
  if (words) moveWords(gpu, COPY, source, target, words);
  else copyHalves(gpu, source, target);
}

/** target += source in f32, both of the same shape and strided in any way. They must not share a storage. */
export function addInto(gpu: Gpu, source: GpuArray, target: GpuArray): void {
  if (source.size > 0) moveWords(gpu, ADD, source, target, walksOf(source.shape, source, target));
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

/** Goes through the words of both arrays at once, or part by part, each of which lies in one chunk of either. */
function moveWords(gpu: Gpu, kernels: MoveKernels, source: GpuArray, target: GpuArray, words: Walks): void {
  if (isWhole(source, target)) {
    moveBox(gpu, kernels, source, target, words, { parts: { source, destination: target } });
    return;
  }
  const shape = words.dimensions.map(({ size }) => size);
  const walk = (array: GpuArray, side: "source" | "target") => ({
    offset: words[side],
    strides: words.dimensions.map((dimension) => dimension[side]),
    chunkLength: array.storage.chunkBytes / 4,
  });
  const [from, to] = [walk(source, "source"), walk(target, "target")];
  for (const box of boxesOf(shape, [from, to])) {
    const [start, end] = box.offsets as readonly [number, number];
    const part = walksOf(box.shape, { ...from, offset: start }, { ...to, offset: end });
    gpu.scope(
      () => moveBox(gpu, kernels, source, target, part),
      () => [],
    );
  }
}

/** Workgroups of the kernels over columns and rows, and how many there may be along each dimension. */
const COLUMNS = 16;
const ROWS = 4;
const MOST_GROUPS = 65_535;

/** Goes through words that lie in one chunk of either array. */
function moveBox(
  gpu: Gpu,
  kernels: MoveKernels,
  source: GpuArray,
  target: GpuArray,
  words: Walks,
  work?: Work,
): void {
  const from = startOfChunk(source, words.source);
  const to = startOfChunk(target, words.target);
  const arrays = {
    source: chunkAt(gpu, source, (from * 4) / source.itemBytes),
    destination: chunkAt(gpu, target, (to * 4) / target.itemBytes),
  };
  const steps = stepsOf({
    dimensions: words.dimensions,
    source: words.source - from,
    target: words.target - to,
  });
  eachGrid(steps, (grid, params) => gpu.run(kernels[steps.by], arrays, params, grid, work));
}

/** Calls `body` for ranges of columns, rows and slabs that a grid has workgroups for: mostly once. */
function eachGrid(
  { by, dimensions, source, target }: Steps,
  body: (grid: Grid, params: Readonly<Record<string, ParamValue>>) => void,
): void {
  // Dimensions as the kernels have them: columns, rows, slabs, and more.
  const [columns = ONE, rows = ONE, slabs = ONE, ...more] = dimensions;
  const count = more.reduce((n, { size }) => n * size, slabs.size);
  const unit = by === "blocks" ? 4 : 1; // columns of a source, and rows of a target, are counted one by one
  for (let slab = 0; slab < count; slab += MOST_GROUPS) {
    for (let row = 0; row < rows.size; row += MOST_GROUPS * ROWS) {
      for (let column = 0; column < columns.size; column += MOST_GROUPS * COLUMNS) {
        const x = Math.min(columns.size - column, MOST_GROUPS * COLUMNS);
        const y = Math.min(rows.size - row, MOST_GROUPS * ROWS);
        const grid: Grid = [Math.ceil(x / COLUMNS), Math.ceil(y / ROWS), Math.min(count - slab, MOST_GROUPS)];
        // One literal: V8 looks names up several times as fast there as in an object that was spread.
        body(grid, {
          columns: x,
          rows: y,
          slabs: slabs.size,
          first_slab: slab,
          source_offset: source + unit * column * columns.source + row * rows.source,
          source_column: columns.source >>> 0,
          source_row: rows.source >>> 0,
          source_slab: slabs.source >>> 0,
          target_offset: target + column * columns.target + unit * row * rows.target,
          target_column: columns.target >>> 0,
          target_row: rows.target >>> 0,
          target_slab: slabs.target >>> 0,
          more: more.length,
          shape: more.map(({ size }) => size),
          source_strides: more.map((dimension) => dimension.source >>> 0),
          target_strides: more.map((dimension) => dimension.target >>> 0),
        });
      }
    }
  }
}

const ONE: Dimension = { size: 1, source: 0, target: 0 };

/** The first word of the chunk that holds a word of an array's storage. */
function startOfChunk({ storage }: GpuArray, word: number): number {
  const length = storage.chunkBytes / 4;
  return Math.floor(word / length) * length;
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
    first,
    source_first: chunk.offset,
    source_length: chunk.size,
    source_offset: source.offset,
    target_offset: place % target.chunkLength,
    shape: source.shape,
    source_strides: asWords(source.strides),
  };
  const arrays = { source: chunk, destination: chunkAt(gpu, target, place) };
  const work = isWhole(source, target) ? { parts: { source, destination: target } } : undefined;
  gpu.run(halvesKernel, arrays, params, grid1d(Math.ceil(n / 2 / 64)), work);
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
