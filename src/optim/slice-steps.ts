import type { GpuArray, TypedArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { fill, threads } from "../ops/index.ts";
import { type Arena, type ArenaEntry, type ArenaSegment, BLOCK, blocksOf } from "./arena.ts";

const advanceKernel: KernelSpec = { shader: "slice_steps", entry: "advance" };

export interface UndrawnOptions {
  /**
   * What happens to an expert that a step has not drawn. "authors" (default): untouched before its first draw,
   * then a zero gradient, so that momentum and decay go on moving it. "zeroGrad": a zero gradient from step 1.
   * "skip": untouched in every step without a draw. Each expert counts its own steps.
   */
  readonly undrawn?: "authors" | "zeroGrad" | "skip";
}

const UNDRAWN = { authors: 0, zeroGrad: 1, skip: 2 } as const;

/** The steps that each slice of an arena has taken, counted on the GPU. */
export class SliceSteps {
  readonly #arena: Arena;
  /** u32 [slices]: steps taken. */
  readonly #steps: GpuArray;
  /** u32 [slices]: the number of this step for slices that take part, 0 for the others. */
  readonly takesPart: GpuArray;

  constructor(arena: Arena) {
    const { gpu, slices } = arena;
    this.#arena = arena;
    this.#steps = gpu.empty([slices], "u32").under("optimiser");
    this.takesPart = gpu.empty([slices], "u32").under("optimiser");
    fill(gpu, this.#steps);
  }

  /** Decides which slices take part in this step, and counts it for them: in `takesPart` up to `most`. */
  advance(undrawn: keyof typeof UNDRAWN, most = 2 ** 32 - 1): void {
    const { gpu, drawn, skip, slices } = this.#arena;
    const arrays = { drawn, skip, steps: this.#steps, takes_part: this.takesPart };
    gpu.run(advanceKernel, arrays, { slices, most, undrawn: UNDRAWN[undrawn] }, threads(slices));
  }

  read(): Promise<TypedArray> {
    return this.#arena.gpu.read(this.#steps);
  }

  write(steps: TypedArray): void {
    this.#arena.gpu.write(this.#steps, steps);
  }

  dispose(): void {
    this.#steps.release();
    this.takesPart.release();
  }
}

/** Tables that lead from an element of a segment to its parameter and slice. */
export interface SegmentTables {
  /** struct Entry { first, size, slice: u32, decay: f32 } of the shaders, one for each parameter. */
  readonly entries: GpuArray;
  /** u32 [blocks]: the number of its entry for each block of the segment. */
  readonly blockEntry: GpuArray;
  /** Elements that lie in one slice together, wherever a multiple of so many begins. */
  readonly width: 1 | 4;
}

export function segmentTables({ gpu }: Arena, segment: ArenaSegment, weightDecay: number): SegmentTables {
  return {
    entries: gpu.from(entryTable(segment, weightDecay)).under("optimiser"),
    blockEntry: gpu.from(blockTable(segment)).under("optimiser"),
    width: segment.entries.every((entry) => stepSize(entry) % 4 === 0) ? 4 : 1,
  };
}

/** Elements that move together: a slice, or a parameter with the zeros that follow it, which stay zeros. */
function stepSize(entry: ArenaEntry): number {
  return entry.parameter.slices > 1 ? entry.sliceSize : blocksOf(entry) * BLOCK;
}

function entryTable({ entries }: ArenaSegment, weightDecay: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(entries.length * 4);
  const floats = new Float32Array(words.buffer);
  entries.forEach((entry, i) => {
    words.set([entry.first, stepSize(entry), entry.firstSlice], i * 4);
    floats[i * 4 + 3] = entry.parameter.decay ? weightDecay : 0;
  });
  return words;
}

function blockTable({ entries, length }: ArenaSegment): Uint32Array<ArrayBuffer> {
  const table = new Uint32Array(length / BLOCK);
  for (const [i, entry] of entries.entries())
    table.fill(i, entry.first / BLOCK, entry.first / BLOCK + blocksOf(entry));
  return table;
}
