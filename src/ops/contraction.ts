import type { Gpu, GpuArray } from "../array/index.ts";
import { accumulate, copyInto } from "./kernels.ts";

/**
 * Matrix products over arrays of several chunks. A product is a contraction: every operand is walked by strides along
 * some of the dimensions below. It is cut into pieces in which each operand lies in one chunk, at the borders of the
 * chunks; each piece is one dispatch of the ordinary kernels. Where a sum is cut (k, group), the pieces are added in
 * order, so that two runs give the same bits.
 */

/**
 * block and inner: the batch; m, n: rows and columns of c; k and group: what is summed over; expert: a place that the
 * GPU looks up in a route, and which is therefore never cut.
 */
export type Dimension = "block" | "inner" | "m" | "n" | "k" | "group" | "expert";
const SUMMED: ReadonlySet<Dimension> = new Set(["k", "group"]);
const ALL: readonly Dimension[] = ["block", "inner", "m", "n", "k", "group", "expert"];

export type Sizes = Readonly<Record<Dimension, number>>;
export type Strides = Readonly<Partial<Record<Dimension, number>>>;

/** An array walked by strides, in elements, from its offset. */
export interface Operand {
  readonly array: GpuArray;
  readonly strides: Strides;
}

/** Kernels load four elements at a time along m, n and k: pieces begin at multiples of four. */
const GRAIN: Sizes = { block: 1, inner: 1, m: 4, n: 4, k: 4, group: 1, expert: Number.POSITIVE_INFINITY };

export interface Contraction {
  readonly sizes: Sizes;
  /** Largest sizes of a piece: what one grid holds. */
  readonly most: Sizes;
  readonly inputs: Readonly<Record<string, Operand>>;
  readonly output: Operand;
}

/** A part of the contraction that one dispatch takes: arrays that can be bound, with their strides. */
export interface Piece {
  /** Indices at which the piece begins. */
  readonly first: Sizes;
  readonly sizes: Sizes;
  readonly inputs: Readonly<Record<string, Operand>>;
  readonly output: Operand;
  /** Whether an earlier piece has written these results: this one's are added to them afterwards. */
  readonly continues: boolean;
}

/** Records a contraction piece by piece. `record` overwrites the piece's output. */
export function contract(gpu: Gpu, contraction: Contraction, record: (piece: Piece) => void): void {
  const { sizes, most, inputs, output } = contraction;
  const operands = [output, ...Object.values(inputs)];
  const open: Part[] = [{ first: ORIGIN, sizes, continues: false }];
  for (let part = open.pop(); part; part = open.pop()) {
    let cut = gridCut(part, most);
    for (const operand of operands) cut ??= chunkCut(gpu, operand, part);
    if (cut) open.push(...halves(part, cut));
    else recordPart(gpu, part, inputs, output, record);
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

const ORIGIN: Sizes = { block: 0, inner: 0, m: 0, n: 0, k: 0, group: 0, expert: 0 };

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

/** Where a part is larger than one grid. */
function gridCut({ sizes }: Part, most: Sizes): Cut | null {
  const dimension = ALL.find((d) => sizes[d] > most[d]);
  return dimension ? { dimension, at: most[dimension] } : null;
}

/** Where a part must be cut so that an operand lies in one chunk; null where it does, or is small enough to copy. */
function chunkCut(gpu: Gpu, { array, strides }: Operand, { first, sizes }: Part): Cut | null {
  const start = startOf(array, strides, first);
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
    scattered ||= grain === Number.POSITIVE_INFINITY;
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
  inputs: Readonly<Record<string, Operand>>,
  output: Operand,
  record: (piece: Piece) => void,
): void {
  gpu.scope(
    () => {
      const parts: Record<string, Operand> = {};
      for (const [name, operand] of Object.entries(inputs)) parts[name] = bound(gpu, operand, first, sizes);
      const place = windowOf(gpu, output, first, sizes);
      const direct = continues ? null : inPlace(gpu, output, first, sizes);
      const target = direct ?? {
        array: gpu.empty(place.shape),
        strides: compactStrides(output.strides, sizes),
      };
      record({ first, sizes, inputs: parts, output: target, continues });
      if (continues) addInto(gpu, target.array, place);
      else if (!direct) copyInto(gpu, target.array, place);
    },
    () => [],
  );
}

/** place += x, both of one shape, `place` strided. */
function addInto(gpu: Gpu, x: GpuArray, place: GpuArray): void {
  if (place.isBindable && place.isInOneChunk) {
    accumulate(gpu, place, x);
    return;
  }
  const sum = gpu.empty(place.shape, place.dtype);
  copyInto(gpu, place, sum);
  accumulate(gpu, sum, x);
  copyInto(gpu, sum, place);
}

function bound(gpu: Gpu, operand: Operand, first: Sizes, sizes: Sizes): Operand {
  const direct = inPlace(gpu, operand, first, sizes);
  if (direct) return direct;
  const place = windowOf(gpu, operand, first, sizes);
  const copy = gpu.empty(place.shape, place.dtype);
  copyInto(gpu, place, copy);
  return { array: copy, strides: compactStrides(operand.strides, sizes) };
}

/** The memory that a part of an operand spans, where a kernel can bind it. */
function inPlace(gpu: Gpu, { array, strides }: Operand, first: Sizes, sizes: Sizes): Operand | null {
  const span = gpu.view(array, [extentOf(strides, sizes)], startOf(array, strides, first));
  return span.isBindable && span.isInOneChunk ? { array: span, strides } : null;
}

/** A part of an operand as a strided view, the longest stride first. */
function windowOf(gpu: Gpu, { array, strides }: Operand, first: Sizes, sizes: Sizes): GpuArray {
  const dimensions = byStride(strides);
  return gpu.view(
    array,
    dimensions.map((d) => sizes[d]),
    startOf(array, strides, first),
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

function startOf(array: GpuArray, strides: Strides, first: Sizes): number {
  let start = array.offset;
  for (const d of ALL) start += first[d] * (strides[d] ?? 0);
  return start;
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
