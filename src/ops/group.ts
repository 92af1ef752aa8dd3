import type { Gpu, GpuArray } from "../array/index.ts";
import { type Grid, grid1d, type KernelSpec } from "../gpu/index.ts";
import { threads } from "./ranges.ts";

const pairsKernel: KernelSpec = { shader: "group", entry: "pairs" };
const pairsFlatKernel: KernelSpec = { shader: "group", entry: "pairs_flat" };
const rankKernel: KernelSpec = { shader: "group", entry: "rank" };
const countKernel: KernelSpec = { shader: "group", entry: "count" };
const scanKernel: KernelSpec = { shader: "group", entry: "scan" };
const placeKernel: KernelSpec = { shader: "group", entry: "place" };

/** Bits of a key that one pass sorts by, and the digits that they make. */
const BITS = 6;
const DIGITS = 2 ** BITS;

/** Pairs up to which comparing each with every other costs less than the passes of a sort. */
const FEW = 1024;

/** Bytes of a pair (key, position). */
export const PAIR_BYTES = 8;

/** Indices, and the keys that they stand for. */
export interface Keys {
  readonly indices: GpuArray;
  /** Keys are below this. Indices that give others sort to the end, with this as their key. */
  readonly bound: number;
  /** Position of the first index among all, where these are a part of them. Default 0. */
  readonly start?: number;
  /** An index that is left out like those out of range. */
  readonly skip?: number;
  /**
   * Indices [outer, middle, inner] into the middle of [outer, rows, inner]: a key is an element of that.
   * Default: the index is the key.
   */
  readonly flat?: { readonly middle: number; readonly inner: number; readonly rows: number };
}

/**
 * Pairs (key, position among these), u32 [n, 2], sorted by key and by position among equal keys. Two dispatches with
 * n² comparisons for up to 1024 indices; beyond, three for every six bits of a key, with n · 64 comparisons in two.
 */
export function groupByKey(gpu: Gpu, { indices, bound, start = 0, skip = -1, flat }: Keys): GpuArray {
  const n = indices.size;
  // Segments as long as there are segments: neither `count` nor `scan` walks more than √n, at least a digit's worth.
  const length = Math.max(DIGITS, 2 ** Math.ceil(Math.log2(Math.sqrt(n))));
  const segments = Math.ceil(n / length);
  const params = {
    n,
    bound,
    skip,
    length,
    segments,
    start,
    inner: flat?.inner ?? 1,
    middle: flat?.middle ?? n,
    rows: flat?.rows ?? bound,
  };
  let pairs = gpu.empty([n, 2], "u32");
  gpu.run(
    flat ? pairsFlatKernel : pairsKernel,
    { indices, pairs_made: pairs },
    { ...params, shift: 0 },
    threads(n),
  );
  let sorted = gpu.empty([n, 2], "u32");
  if (n <= FEW) {
    gpu.run(rankKernel, { unsorted: pairs, pairs_made: sorted }, { ...params, shift: 0 }, threads(n));
    return sorted;
  }
  const counts = gpu.empty([DIGITS, segments], "u32");
  const totals = gpu.empty([DIGITS], "u32");
  const grid = grid1d(segments);
  const once: Grid = [1, 1, 1];
  for (let shift = 0; 2 ** shift <= bound; shift += BITS) {
    const pass = { ...params, shift };
    gpu.run(countKernel, { unsorted: pairs, counts }, pass, grid);
    gpu.run(scanKernel, { counts, totals }, pass, once);
    const arrays = { unsorted: pairs, counts_saved: counts, totals_saved: totals, pairs_made: sorted };
    gpu.run(placeKernel, arrays, pass, grid);
    [pairs, sorted] = [sorted, pairs];
  }
  return pairs;
}
