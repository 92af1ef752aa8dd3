import type { Gpu, GpuArray, TypedArray } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { GpuError, type KernelSpec, ShapeError } from "../gpu/index.ts";
import { fill, runRows, threads } from "../ops/index.ts";
import { Arena, type ArenaSegment, BLOCK, blocksOf } from "./arena.ts";

export interface AdamWOptions {
  /** Learning rate until another is set. Default 1e-3. */
  readonly lr?: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled decay of parameters that decay (weights; not biases and LayerNorms). Default 0.01. */
  readonly weightDecay?: number;
  /** "pytorch" (default), or "huggingface": eps before the bias correction, decay after the update. */
  readonly convention?: "pytorch" | "huggingface";
  /**
   * What happens to an expert that a step has not drawn. "authors" (default): untouched before its first draw,
   * then a zero gradient, so that momentum and decay go on moving it. "zeroGrad": a zero gradient from step 1.
   * "skip": untouched in every step without a draw. Each expert counts its own steps.
   */
  readonly undrawn?: "authors" | "zeroGrad" | "skip";
}

const UNDRAWN = { authors: 0, zeroGrad: 1, skip: 2 } as const;
const advanceKernel: KernelSpec = { shader: "adamw", entry: "advance" };
const stepKernel: KernelSpec = { shader: "adamw", entry: "step" };

/** What the optimiser keeps for one segment of the arena. */
interface SegmentState {
  readonly segment: ArenaSegment;
  readonly firstMoments: GpuArray;
  readonly secondMoments: GpuArray;
  readonly entries: GpuArray;
  readonly blockEntry: GpuArray;
}

/** AdamW (Loshchilov and Hutter 2019) over one arena: two dispatches where one binding holds it. Formulas: shaders/adamw.wgsl. */
export class AdamW {
  readonly arena: Arena;
  readonly #gpu: Gpu;
  readonly #options: Required<AdamWOptions>;
  readonly #states: readonly SegmentState[];
  readonly #steps: GpuArray;
  readonly #takesPart: GpuArray;
  readonly #schedule: GpuArray;
  readonly #table: number;
  #lr: number;

  constructor(parameters: readonly Parameter[], options: AdamWOptions = {}) {
    this.#options = {
      lr: 1e-3,
      betas: [0.9, 0.999],
      eps: 1e-8,
      weightDecay: 0.01,
      convention: "pytorch",
      undrawn: "authors",
      ...options,
    };
    checkRanges(this.#options);
    this.arena = new Arena(parameters);
    const gpu = this.arena.gpu;
    this.#gpu = gpu;
    const secondMoments = this.arena.zeros();
    this.#states = this.arena.zeros().map((firstMoments, i) => {
      const segment = this.arena.segments[i] as ArenaSegment;
      return {
        segment,
        firstMoments,
        secondMoments: secondMoments[i] as GpuArray,
        entries: gpu.from(entryTable(segment, this.#options.weightDecay)),
        blockEntry: gpu.from(blockTable(segment)),
      };
    });
    this.#steps = gpu.empty([this.arena.slices], "u32");
    fill(gpu, this.#steps);
    this.#takesPart = gpu.empty([this.arena.slices], "u32");
    const table = correctionTable(this.#options.betas);
    this.#table = table.length / 2 - 1;
    this.#lr = this.#options.lr;
    table[0] = this.#lr;
    this.#schedule = gpu.from(table);
    for (const array of this.#own()) array.under("optimiser");
  }

  /** The rate of the steps that follow. */
  get learningRate(): number {
    return this.#lr;
  }

  /** Writes the rate of the steps that follow: the input slot of a captured step. Nothing is written twice. */
  setLearningRate(lr: number): void {
    const gpu = this.#gpu;
    checkRate(lr);
    if (gpu.device.captures.isCapturing) {
      throw new GpuError(
        `AdamW: a captured step would keep the rate ${lr} for ever; call setLearningRate() before its run(), and step() without a rate inside`,
      );
    }
    if (lr === this.#lr) return;
    gpu.scope(
      () => gpu.write(gpu.view(this.#schedule, [2]), new Float32Array([lr, 0])),
      () => [],
    );
    this.#lr = lr;
  }

  /** Sets gradients to zero. Call before each step's forward pass. */
  zeroGrad(): void {
    this.arena.zeroGrad();
  }

  /**
   * One update with the gradients collected since zeroGrad(). `lr`: setLearningRate() first, which a captured step
   * must do outside, before its run().
   */
  step(lr?: number): void {
    if (lr !== undefined) this.setLearningRate(lr);
    const gpu = this.#gpu;
    const { arena } = this;
    const { betas, eps, convention, undrawn } = this.#options;
    const params = {
      slices: arena.slices,
      table: this.#table,
      undrawn: UNDRAWN[undrawn],
      convention: convention === "pytorch" ? 0 : 1,
      share1: 1 - betas[0],
      share2: 1 - betas[1],
      eps,
    };
    const counts = {
      drawn: arena.drawn,
      skip: arena.skip,
      steps: this.#steps,
      takes_part: this.#takesPart,
    };
    gpu.run(advanceKernel, counts, { ...params, blocks: 0, first_block: 0 }, threads(arena.slices));
    const whole = { takes_part_saved: this.#takesPart, schedule: this.#schedule };
    for (const { segment, firstMoments, secondMoments, entries, blockEntry } of this.#states) {
      runRows(gpu, stepKernel, {
        rows: segment.length / BLOCK,
        split: {
          value: segment.values,
          gradient: segment.gradients,
          first_moment: firstMoments,
          second_moment: secondMoments,
          block_entry: blockEntry,
        },
        whole: { ...whole, entries },
        params: (first) => ({ ...params, first_block: first }),
        count: "blocks",
      });
    }
  }

  /** Moments and step counts by name, for a checkpoint. */
  async state(): Promise<Record<"firstMoments" | "secondMoments" | "steps", TypedArray>> {
    return {
      firstMoments: await this.#readAll(this.#states.map(({ firstMoments }) => firstMoments)),
      secondMoments: await this.#readAll(this.#states.map(({ secondMoments }) => secondMoments)),
      steps: await this.#gpu.read(this.#steps),
    };
  }

  /** Takes back what `state` gave, for the same parameters in the same order. */
  loadState(state: Readonly<Record<"firstMoments" | "secondMoments" | "steps", TypedArray>>): void {
    const { firstMoments, secondMoments, steps } = state;
    const { length, slices } = this.arena;
    if (firstMoments.length !== length || secondMoments.length !== length || steps.length !== slices) {
      const given = `${firstMoments.length} and ${secondMoments.length} moments and ${steps.length} step counts`;
      throw new ShapeError(`AdamW: a state of ${given}; these parameters have ${length} and ${slices}`);
    }
    let first = 0;
    for (const { segment, firstMoments: m, secondMoments: v } of this.#states) {
      const end = first + segment.length;
      this.#gpu.write(m, firstMoments.subarray(first, end));
      this.#gpu.write(v, secondMoments.subarray(first, end));
      first = end;
    }
    this.#gpu.write(this.#steps, steps);
  }

  dispose(): void {
    this.arena.dispose();
    for (const array of this.#own()) array.release();
  }

  /** What lies beside the arena. */
  #own(): GpuArray[] {
    const ofSegments = this.#states.flatMap(({ firstMoments, secondMoments, entries, blockEntry }) => [
      firstMoments,
      secondMoments,
      entries,
      blockEntry,
    ]);
    return [...ofSegments, this.#steps, this.#takesPart, this.#schedule];
  }

  /** The segments' values behind one another, as they would lie in one array. */
  async #readAll(arrays: readonly GpuArray[]): Promise<TypedArray> {
    if (arrays.length === 1) return this.#gpu.read(arrays[0] as GpuArray);
    const all = new Float32Array(this.arena.length);
    let first = 0;
    for (const array of arrays) {
      all.set(await this.#gpu.read(array), first);
      first += array.size;
    }
    return all;
  }
}

function checkRanges({ lr, betas, eps, weightDecay }: Required<AdamWOptions>): void {
  const bad = (name: string, value: number, range: string): never => {
    throw new ShapeError(`AdamW: ${name} is ${value}, expected ${range}`);
  };
  checkRate(lr);
  for (const beta of betas) if (!(beta >= 0 && beta < 1)) bad("beta", beta, "0 <= beta < 1");
  if (!(eps >= 0)) bad("eps", eps, "0 or more");
  if (!(weightDecay >= 0)) bad("weightDecay", weightDecay, "0 or more");
}

function checkRate(lr: number): void {
  if (!(lr >= 0)) throw new ShapeError(`AdamW: lr is ${lr}, expected 0 or more`);
}

/** struct Entry { first, size, slice: u32, decay: f32 } of shaders/adamw.wgsl, one for each parameter. */
function entryTable({ entries }: ArenaSegment, weightDecay: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(entries.length * 4);
  const floats = new Float32Array(words.buffer);
  entries.forEach(({ parameter, first, sliceSize, firstSlice }, i) => {
    words.set([first, sliceSize, firstSlice], i * 4);
    floats[i * 4 + 3] = parameter.decay ? weightDecay : 0;
  });
  return words;
}

/** The number of its entry for each block of the segment. */
function blockTable({ entries, length }: ArenaSegment): Uint32Array<ArrayBuffer> {
  const table = new Uint32Array(length / BLOCK);
  for (const [i, entry] of entries.entries())
    table.fill(i, entry.first / BLOCK, entry.first / BLOCK + blocksOf(entry));
  return table;
}

/** [0]: (lr, 0). [t]: (1 - β1^t, 1 - β2^t) in float64, until both are 1 in float32. */
function correctionTable([beta1, beta2]: readonly [number, number]): Float32Array<ArrayBuffer> {
  const pairs: number[] = [0, 0];
  for (let t = 1; ; t++) {
    const c1 = Math.fround(1 - beta1 ** t);
    const c2 = Math.fround(1 - beta2 ** t);
    pairs.push(c1, c2);
    if (c1 === 1 && c2 === 1) return Float32Array.from(pairs);
  }
}
