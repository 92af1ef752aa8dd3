import type { GpuArray, TypedArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { fill, threads } from "../ops/index.ts";
import { type Arena, blocksOf } from "./arena.ts";

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

/** The steps that each slice of an arena has taken, counted on the GPU, and tables that lead from an element to its slice. */
export class SliceSteps {
  readonly #arena: Arena;
  /** u32 [slices]: steps taken. */
  readonly steps: GpuArray;
  /** u32 [slices]: the number of this step for slices that take part, 0 for the others. */
  readonly takesPart: GpuArray;
  /** struct Entry { first, size, slice: u32, decay: f32 } of the shaders, one for each parameter. */
  readonly entries: GpuArray;
  /** u32 [blocks]: the entry of each block of 64 elements. */
  readonly blockEntry: GpuArray;

  constructor(arena: Arena, weightDecay: number) {
    const { gpu } = arena;
    this.#arena = arena;
    this.steps = gpu.empty([arena.slices], "u32");
    this.takesPart = gpu.empty([arena.slices], "u32");
    fill(gpu, this.steps);
    this.entries = gpu.from(entryTable(arena, weightDecay));
    this.blockEntry = gpu.from(blockTable(arena));
    for (const array of this.#own()) array.under("optimiser");
  }

  /** Decides which slices take part in this step, and counts it for them: up to `most` in `takesPart`. */
  advance(undrawn: keyof typeof UNDRAWN, most = 2 ** 32 - 1): void {
    const { gpu, drawn, skip, slices } = this.#arena;
    const arrays = { drawn, skip, steps: this.steps, takes_part: this.takesPart };
    gpu.run(advanceKernel, arrays, { slices, most, undrawn: UNDRAWN[undrawn] }, threads(slices));
  }

  read(): Promise<TypedArray> {
    return this.#arena.gpu.read(this.steps);
  }

  write(steps: TypedArray): void {
    this.#arena.gpu.write(this.steps, steps);
  }

  dispose(): void {
    for (const array of this.#own()) array.release();
  }

  #own(): GpuArray[] {
    return [this.steps, this.takesPart, this.entries, this.blockEntry];
  }
}

function entryTable(arena: Arena, weightDecay: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(arena.entries.length * 4);
  const floats = new Float32Array(words.buffer);
  arena.entries.forEach(({ parameter, first, sliceSize, firstSlice }, i) => {
    words.set([first, sliceSize, firstSlice], i * 4);
    floats[i * 4 + 3] = parameter.decay ? weightDecay : 0;
  });
  return words;
}

function blockTable(arena: Arena): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(arena.entries.flatMap((entry, i) => new Array<number>(blocksOf(entry)).fill(i)));
}
