import { type Gpu, type GpuArray, showShape } from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import type { Middle } from "./axes.ts";
import { contiguous, copyInto } from "./copy.ts";
import { type Arrays, areInOneChunk, eachRange } from "./ranges.ts";

/** Arrays [outer, rows, inner] of the same outer and inner, each with rows of its own. */
export interface Slabs {
  readonly outer: number;
  readonly inner: number;
  readonly arrays: Arrays;
  /** Names of those that `body` writes. */
  readonly written: readonly string[];
}

/**
 * Calls `body` for parts of [outer, rows, inner] in which every array can be bound: for ranges of `outer`, or, where
 * a slab [rows, inner] is larger than a binding, for copies of some columns of each slab. Once where all are bound at
 * once. One column must fit a binding; `label` names the kernel in the error.
 */
export function eachSlab(
  gpu: Gpu,
  label: string,
  { outer, inner, arrays, written }: Slabs,
  body: (parts: Arrays, outer: number, inner: number) => void,
): void {
  if (outer * inner === 0) return;
  const given = Object.entries(arrays).filter((entry): entry is [string, GpuArray] => entry[1] !== null);
  const fits = given.every(([, { bytes }]) => bytes / outer <= gpu.maxBindingBytes);
  if (fits || areInOneChunk(arrays)) {
    eachRange(gpu, label, { rows: outer, arrays }, new Set(written), (parts, _first, n) =>
      body(parts, n, inner),
    );
    return;
  }
  const longest = Math.max(...given.map(([, { bytes }]) => bytes / outer / inner));
  const columns = Math.floor(gpu.maxBindingBytes / longest);
  if (columns < 1) {
    const [name, array] = given.find(([, { bytes }]) => bytes / outer / inner === longest) ?? ["x", null];
    throw new GpuError(
      `${label}: a column of ${name} ${showShape(array?.shape ?? [])} takes ${longest} bytes, and the largest binding here is ${gpu.maxBindingBytes} bytes`,
    );
  }
  for (let o = 0; o < outer; o++) {
    for (let first = 0; first < inner; first += columns) {
      gpu.scope(
        () =>
          onCopies(
            gpu,
            { outer, inner, arrays, written },
            { o, first, n: Math.min(columns, inner - first) },
            body,
          ),
        () => [],
      );
    }
  }
}

/**
 * A reduction whose columns are longer than a binding, by a reduction of its pieces: [outer, pieces, inner], each piece
 * of a column reduced by `reduce` [outer, rows, inner] -> [outer, inner]. The middle itself where a column fits.
 */
export function shortened(gpu: Gpu, middle: Middle, reduce: (piece: Middle) => GpuArray): Middle {
  const { x, outer, rows, inner } = middle;
  const most = gpu.maxBindingBytes / x.itemBytes;
  if (rows <= most) return middle;
  const pieces = Math.ceil(rows / most);
  const results = gpu.empty([outer, pieces, inner], x.dtype);
  for (let piece = 0; piece < pieces; piece++) {
    gpu.scope(
      () => {
        const n = Math.min(most, rows - piece * most);
        const strides = [rows * inner, inner, 1];
        const part = gpu.view(x, [outer, n, inner], x.offset + piece * most * inner, strides);
        const result = reduce({ x: contiguous(gpu, part), outer, rows: n, inner });
        const place = gpu.view(results, [outer, inner], piece * inner, [pieces * inner, 1]);
        copyInto(gpu, gpu.view(result, [outer, inner]), place);
      },
      () => [],
    );
  }
  return { x: results, outer, rows: pieces, inner };
}

/** Calls `body` with copies of columns first .. first + n of slab `o`. */
function onCopies(
  gpu: Gpu,
  { outer, inner, arrays, written }: Slabs,
  { o, first, n }: { readonly o: number; readonly first: number; readonly n: number },
  body: (parts: Arrays, outer: number, inner: number) => void,
): void {
  const parts: Record<string, GpuArray | null> = {};
  const places: (readonly [GpuArray, GpuArray])[] = [];
  for (const [name, array] of Object.entries(arrays)) {
    parts[name] = null;
    if (!array) continue;
    const rows = array.size / outer / inner;
    const start = array.offset + o * rows * inner + first;
    const place = gpu.view(array, [rows, n], start, [inner, 1]);
    const copy = gpu.empty(place.shape, place.dtype);
    copyInto(gpu, place, copy);
    parts[name] = copy;
    if (written.includes(name)) places.push([copy, place]);
  }
  body(parts, 1, n);
  for (const [copy, place] of places) copyInto(gpu, copy, place);
}
