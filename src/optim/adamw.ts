import { type GpuArray, knownOptions, type OptionNames, type TypedArray } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { grid1d, ShapeError } from "../gpu/index.ts";
import { columnKernel, runRows } from "../ops/index.ts";
import { Arena, type ArenaSegment, BLOCK } from "./arena.ts";
import type { Optimizer } from "./optimizer.ts";
import { RateSlot } from "./rate-slot.ts";
import { type SegmentTables, SliceSteps, segmentTables, type UndrawnOptions } from "./slice-steps.ts";

export interface AdamWOptions extends UndrawnOptions {
  /** Learning rate until another is set. Default 1e-3. */
  readonly lr?: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled decay of parameters that decay (weights; not biases and LayerNorms). Default 0.01. */
  readonly weightDecay?: number;
  /** "pytorch" (default), or "huggingface": eps before the bias correction, decay after the update. */
  readonly convention?: "pytorch" | "huggingface";
}
const NAMES: OptionNames<AdamWOptions> = {
  lr: true,
  betas: true,
  eps: true,
  weightDecay: true,
  convention: true,
  undrawn: true,
};

const stepKernel = columnKernel("adamw", "step");

/** What the optimiser keeps for one segment of the arena. */
interface SegmentState extends SegmentTables {
  readonly segment: ArenaSegment;
  readonly firstMoments: GpuArray;
  readonly secondMoments: GpuArray;
}

/** AdamW (Loshchilov and Hutter 2019) over one arena: two dispatches where one binding holds it. Formulas: shaders/adamw.wgsl. */
export class AdamW implements Optimizer {
  readonly arena: Arena;
  readonly #options: Required<AdamWOptions>;
  readonly #states: readonly SegmentState[];
  readonly #slices: SliceSteps;
  readonly #rate: RateSlot;
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
      ...knownOptions("AdamW", options, NAMES),
    };
    checkRanges(this.#options);
    this.arena = new Arena(parameters, "AdamW");
    const { gpu, segments } = this.arena;
    const table = correctionTable(this.#options.betas);
    this.#table = table.length / 2 - 1;
    this.#schedule = gpu.from(table).under("optimiser");
    this.#rate = new RateSlot(gpu, "AdamW", this.#options.lr, this.#schedule.view([1]));
    this.#slices = new SliceSteps(this.arena);
    const secondMoments = this.arena.zeros();
    this.#states = this.arena.zeros().map((firstMoments, i) => {
      const segment = segments[i] as ArenaSegment;
      return {
        segment,
        firstMoments,
        secondMoments: secondMoments[i] as GpuArray,
        ...segmentTables(this.arena, segment, this.#options.weightDecay),
      };
    });
  }

  get learningRate(): number {
    return this.#rate.rate;
  }

  setLearningRate(lr: number): void {
    this.#rate.set(lr);
  }

  zeroGrad(): void {
    this.arena.zeroGrad();
  }

  step(lr?: number): void {
    this.arena.assertAlive("step()");
    if (lr !== undefined) this.setLearningRate(lr);
    const { betas, eps, convention, undrawn } = this.#options;
    this.#slices.advance(undrawn, this.#table);
    const params = {
      convention: convention === "pytorch" ? 0 : 1,
      share1: 1 - betas[0],
      share2: 1 - betas[1],
      eps,
    };
    const whole = { takes_part: this.#slices.takesPart, schedule: this.#schedule };
    for (const { segment, firstMoments, secondMoments, entries, blockEntry, width } of this.#states) {
      runRows(this.arena.gpu, stepKernel(width).kernel, {
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
        grid: (blocks) => grid1d(Math.ceil(blocks / width)),
      });
    }
  }

  /** Moments and step counts. */
  async state(): Promise<Readonly<Record<"firstMoments" | "secondMoments" | "steps", TypedArray>>> {
    return {
      firstMoments: await this.arena.read(this.#states.map(({ firstMoments }) => firstMoments)),
      secondMoments: await this.arena.read(this.#states.map(({ secondMoments }) => secondMoments)),
      steps: await this.#slices.read(),
    };
  }

  loadState({ firstMoments, secondMoments, steps }: Readonly<Record<string, TypedArray>>): void {
    const { arena } = this;
    const { length, slices } = arena;
    if (firstMoments?.length !== length || secondMoments?.length !== length || steps?.length !== slices) {
      const given = `${firstMoments?.length ?? 0} and ${secondMoments?.length ?? 0} moments and ${steps?.length ?? 0} step counts`;
      throw new ShapeError(`AdamW: a state of ${given}; these parameters have ${length} and ${slices}`);
    }
    arena.write(
      this.#states.map((state) => state.firstMoments),
      firstMoments,
    );
    arena.write(
      this.#states.map((state) => state.secondMoments),
      secondMoments,
    );
    this.#slices.write(steps);
  }

  dispose(): void {
    this.arena.dispose();
    this.#slices.dispose();
    this.#rate.dispose();
    this.#schedule.release();
    for (const { firstMoments, secondMoments, entries, blockEntry } of this.#states)
      for (const array of [firstMoments, secondMoments, entries, blockEntry]) array.release();
  }
}

/** All of them before a parameter moves: one whose optimiser was never made would belong to it for ever. */
function checkRanges({ lr, betas, eps, weightDecay }: Required<AdamWOptions>): void {
  const bad = (name: string, value: number, range: string): never => {
    throw new ShapeError(`AdamW: ${name} is ${value}, expected ${range}`);
  };
  if (!(lr >= 0)) bad("lr", lr, "0 or more");
  for (const beta of betas) if (!(beta >= 0 && beta < 1)) bad("beta", beta, "0 <= beta < 1");
  if (!(eps >= 0)) bad("eps", eps, "0 or more");
  if (!(weightDecay >= 0)) bad("weightDecay", weightDecay, "0 or more");
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
