import type { Gpu, GpuArray, TypedArray } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { grid1d, type KernelSpec, ShapeError } from "../gpu/index.ts";
import { fill, threads } from "../ops/index.ts";
import { Arena, blocksOf } from "./arena.ts";

export interface AdamWOptions {
  /** Learning rate of a step whose `step()` names none. Default 1e-3. */
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

/** AdamW (Loshchilov and Hutter 2019) over one arena, in two dispatches. Formulas: shaders/adamw.wgsl. */
export class AdamW {
  readonly arena: Arena;
  readonly #gpu: Gpu;
  readonly #options: Required<AdamWOptions>;
  readonly #firstMoments: GpuArray;
  readonly #secondMoments: GpuArray;
  readonly #steps: GpuArray;
  readonly #takesPart: GpuArray;
  readonly #entries: GpuArray;
  readonly #blockEntry: GpuArray;
  readonly #schedule: GpuArray;
  readonly #table: number;

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
    this.#firstMoments = gpu.empty([this.arena.length]);
    this.#secondMoments = gpu.empty([this.arena.length]);
    this.#steps = gpu.empty([this.arena.slices], "u32");
    for (const array of [this.#firstMoments, this.#secondMoments, this.#steps]) fill(gpu, array);
    this.#takesPart = gpu.empty([this.arena.slices], "u32");
    this.#entries = gpu.from(entryTable(this.arena, this.#options.weightDecay));
    this.#blockEntry = gpu.from(blockTable(this.arena));
    const table = correctionTable(this.#options.betas);
    this.#table = table.length / 2 - 1;
    this.#schedule = gpu.from(table);
  }

  /** Sets gradients to zero. Call before each step's forward pass. */
  zeroGrad(): void {
    this.arena.zeroGrad();
  }

  /** One update with the gradients collected since zeroGrad(). */
  step(lr = this.#options.lr): void {
    const gpu = this.#gpu;
    const { arena } = this;
    const { betas, eps, convention, undrawn } = this.#options;
    gpu.scope(
      () => gpu.write(gpu.view(this.#schedule, [2]), new Float32Array([lr, 0])),
      () => [],
    );
    const params = {
      n: arena.length,
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
    gpu.run(advanceKernel, counts, params, threads(arena.slices));
    const arrays = {
      value: arena.values,
      gradient: arena.gradients,
      first_moment: this.#firstMoments,
      second_moment: this.#secondMoments,
      takes_part_saved: this.#takesPart,
      entries: this.#entries,
      block_entry: this.#blockEntry,
      schedule: this.#schedule,
    };
    gpu.run(stepKernel, arrays, params, grid1d(arena.length / 64));
  }

  /** Moments and step counts by name, for a checkpoint. */
  async state(): Promise<Record<"firstMoments" | "secondMoments" | "steps", TypedArray>> {
    return {
      firstMoments: await this.#gpu.read(this.#firstMoments),
      secondMoments: await this.#gpu.read(this.#secondMoments),
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
    this.#gpu.write(this.#firstMoments, firstMoments);
    this.#gpu.write(this.#secondMoments, secondMoments);
    this.#gpu.write(this.#steps, steps);
  }

  dispose(): void {
    this.arena.dispose();
    const own = [
      this.#firstMoments,
      this.#secondMoments,
      this.#steps,
      this.#takesPart,
      this.#entries,
      this.#blockEntry,
    ];
    for (const array of [...own, this.#schedule]) array.release();
  }
}

function checkRanges({ lr, betas, eps, weightDecay }: Required<AdamWOptions>): void {
  const bad = (name: string, value: number, range: string): never => {
    throw new ShapeError(`AdamW: ${name} is ${value}, expected ${range}`);
  };
  if (!(lr >= 0)) bad("lr", lr, "0 or more");
  for (const beta of betas) if (!(beta >= 0 && beta < 1)) bad("beta", beta, "0 <= beta < 1");
  if (!(eps >= 0)) bad("eps", eps, "0 or more");
  if (!(weightDecay >= 0)) bad("weightDecay", weightDecay, "0 or more");
}

/** struct Entry { first, size, slice: u32, decay: f32 } of shaders/adamw.wgsl, one for each parameter. */
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
