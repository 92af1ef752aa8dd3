import type { Gpu, GpuArray } from "../array/index.ts";
import { copyInto } from "./kernels.ts";

/**
 * Matrix products over arrays of several chunks. A product is a contraction: every operand is walked by strides along
 * some of the dimensions below. It is cut into pieces in which each operand lies in one chunk, at the borders of the
 * chunks; each piece is one dispatch of the ordinary kernels. Where a sum is cut (k, group), later pieces add to the
 * result of the first in their order, so that two runs give the same bits.
 */

/**
 * block, inner and shared: the batch; m, n: rows and columns of c; k and group: what is summed over; expert: a place
 * that the GPU looks up in a route, and which is therefore never cut.
 */
export type Dimension = "block" | "inner" | "shared" | "m" | "n" | "k" | "group" | "expert";
const SUMMED: ReadonlySet<Dimension> = new Set(["k", "group"]);
const ALL: readonly Dimension[] = ["block", "inner", "shared", "m", "n", "k", "group", "expert"];

export type Sizes = Readonly<Record<Dimension, number>>;
export type Strides = Readonly<Partial<Record<Dimension, number>>>;

/** An array walked by strides, in elements. */
export interface Operand {
  readonly array: GpuArray;
  /** Where the walk begins, from the array's first element; undefined: kernels know no such place, it is 0. */
  readonly start?: number;
  readonly strides: Strides;
}

const UNCUT = Number.POSITIVE_INFINITY;
/** Kernels load four elements at a time along m, n and k: pieces begin at multiples of four. */
const GRAIN: Sizes = { block: 1, inner: 1, shared: 1, m: 4, n: 4, k: 4, group: 1, expert: UNCUT };

export interface Contraction {
  readonly sizes: Sizes;
  readonly inputs: Readonly<Record<string, Operand>>;
  readonly output: Operand;
  /** Whether the output is added to what is there. */
  readonly accumulates: boolean;
}

/** A part of the contraction that one dispatch takes: arrays that can be bound, and how they are walked. */
export interface Piece extends Contraction {
  /** Whether an earlier piece has written terms of these results: bias and the like are in it. */
  readonly continues: boolean;
}

/** Records a contraction piece by piece. */
export function contract(gpu: Gpu, contraction: Contraction, record: (piece: Piece) => void): void {
  const { sizes, inputs, output } = contraction;
  const operands = [output, ...Object.values(inputs)];
  const open: Part[] = [{ first: ORIGIN, sizes, continues: false }];
  for (let part = open.pop(); part; part = open.pop()) {
    let cut: Cut | null = null;
    for (const operand of operands) cut ??= cutOf(gpu, operand, part);
    if (cut) open.push(...halves(part, cut));
    else recordPart(gpu, part, contraction, record);
  }
}

interface Part {
  readonly first: Sizes;
  readonly sizes: Sizes;
  readonly continues: boolean;
}

interface Cut {
  readonly dimension: Dimension;
  readonly at: number;
}

const ORIGIN: Sizes = { block: 0, inner: 0, shared: 0, m: 0, n: 0, k: 0, group: 0, expert: 0 };

/** The two parts, the one to record first on top. */
function halves({ first, sizes, continues }: Part, { dimension, at }: Cut): Part[] {
  return [
    {
      first: { ...first, [dimension]: first[dimension] + at },
      sizes: { ...sizes, [dimension]: sizes[dimension] - at },
      continues: continues || SUMMED.has(dimension),
    },
    { first, sizes: { ...sizes, [dimension]: at }, continues },
  ];
}

/** Where a part must be cut so that an operand lies in one chunk; null where it does, or is small enough to copy. */
function cutOf(gpu: Gpu, operand: Operand, { first, sizes }: Part): Cut | null {
  const { array, strides } = operand;
  const start = startOf(operand, first);
  const border = (Math.floor(start / array.chunkLength) + 1) * array.chunkLength;
  if (start + extentOf(strides, sizes) <= border) return null;
  const share = gpu.maxBindingBytes / (compactSize(strides, sizes) * array.itemBytes);
  let scattered = false;
  for (const dimension of byStride(strides)) {
    const n = sizes[dimension];
    const grain = GRAIN[dimension];
    if (n <= 1) continue;
    // The border runs through a few rows, or lies where the GPU looks: what fits is copied.
    if (n <= grain && share >= 1) return null;
    scattered ||= grain === UNCUT;
    if (n <= grain) continue;
    const stride = strides[dimension] as number;
    const rest = extentOf(strides, { ...sizes, [dimension]: 1 });
    const whole = scattered ? Math.floor(share * n) : Math.floor((border - start - rest) / stride) + 1;
    return { dimension, at: Math.max(Math.floor(Math.min(whole, n - 1) / grain) * grain, grain) };
  }
  return null;
}

function recordPart(
  gpu: Gpu,
  { first, sizes, continues }: Part,
  { inputs, output, accumulates }: Contraction,
  record: (piece: Piece) => void,
): void {
  gpu.scope(
    () => {
      const parts: Record<string, Operand> = {};
      for (const [name, operand] of Object.entries(inputs)) {
        parts[name] = inPlace(gpu, operand, first, sizes) ?? copied(gpu, operand, first, sizes, true);
      }
      const adds = accumulates || continues;
      const direct = inPlace(gpu, output, first, sizes);
      const target = direct ?? copied(gpu, output, first, sizes, adds);
      record({ sizes, inputs: parts, output: target, accumulates: adds, continues });
      if (!direct) copyInto(gpu, target.array, windowOf(gpu, output, first, sizes));
    },
    () => [],
  );
}

/** The memory that a part of an operand spans, where a kernel can bind it. */
function inPlace(gpu: Gpu, operand: Operand, first: Sizes, sizes: Sizes): Operand | null {
  const { array, strides } = operand;
  const place = startOf(operand, first);
  const before = operand.start === undefined ? 0 : place % (gpu.device.traits.alignment / array.itemBytes);
  const span = gpu.view(array, [before + extentOf(strides, sizes)], place - before);
  if (!span.isBindable || !span.isInOneChunk) return null;
  return { array: span, strides, ...(operand.start !== undefined && { start: before }) };
}

/** A copy of a part of an operand, without gaps; with its values where they are read. */
function copied(gpu: Gpu, operand: Operand, first: Sizes, sizes: Sizes, isRead: boolean): Operand {
  const place = windowOf(gpu, operand, first, sizes);
  const array = gpu.empty(place.shape, place.dtype);
  if (isRead) copyInto(gpu, place, array);
  return {
    array,
    strides: compactStrides(operand.strides, sizes),
    ...(operand.start !== undefined && { start: 0 }),
  };
}

/** A part of an operand as a strided view, the longest stride first. */
function windowOf(gpu: Gpu, operand: Operand, first: Sizes, sizes: Sizes): GpuArray {
  const { array, strides } = operand;
  const dimensions = byStride(strides);
  return gpu.view(
    array,
    dimensions.map((d) => sizes[d]),
    startOf(operand, first),
    dimensions.map((d) => strides[d] as number),
  );
}

/** Strides of a copy of a window, without gaps. */
function compactStrides(strides: Strides, sizes: Sizes): Strides {
  const result: Partial<Record<Dimension, number>> = {};
  let stride = 1;
  for (const d of byStride(strides).reverse()) {
    result[d] = stride;
    stride *= sizes[d];
  }
  return result;
}

function compactSize(strides: Strides, sizes: Sizes): number {
  let size = 1;
  for (const d of byStride(strides)) size *= sizes[d];
  return size;
}

/** Dimensions along which an operand is walked, the longest stride first. */
function byStride(strides: Strides): Dimension[] {
  return ALL.filter((d) => (strides[d] ?? 0) > 0).sort((a, b) => (strides[b] ?? 0) - (strides[a] ?? 0));
}

function startOf({ array, start = 0, strides }: Operand, first: Sizes): number {
  let place = array.offset + start;
  for (const d of ALL) place += first[d] * (strides[d] ?? 0);
  return place;
}

/** Elements from the first to the last that a part of an operand reaches. */
function extentOf(strides: Strides, sizes: Sizes): number {
  let extent = 1;
  for (const d of byStride(strides)) {
    if (sizes[d] === 0) return 0;
    extent += (sizes[d] - 1) * (strides[d] ?? 0);
  }
  return extent;
}
