import { type GpuArray, knownOptions, type OptionNames, type TypedArray } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { grid1d, ShapeError } from "../gpu/index.ts";
import { columnKernel, runRows } from "../ops/index.ts";
import { Arena, type ArenaSegment, BLOCK } from "./arena.ts";
import type { Optimizer } from "./optimizer.ts";
import { RateSlot } from "./rate-slot.ts";
import { type SegmentTables, SliceSteps, segmentTables, type UndrawnOptions } from "./slice-steps.ts";

export interface SGDOptions extends UndrawnOptions {
  /** Learning rate until another is set. Default 1e-3. */
  readonly lr?: number;
  /** μ of the buffer b = μ b + (1 - dampening) g. Default 0: none is kept. */
  readonly momentum?: number;
  readonly dampening?: number;
  /** Looks ahead: moves by g + μ b in place of b. Needs momentum, and no dampening. */
  readonly nesterov?: boolean;
  /** Added to the gradient of parameters that decay (weights; not biases and LayerNorms): weightDecay · p. Default 0. */
  readonly weightDecay?: number;
}
const NAMES: OptionNames<SGDOptions> = {
  lr: true,
  momentum: true,
  dampening: true,
  nesterov: true,
  weightDecay: true,
  undrawn: true,
};

/** What the optimiser keeps for one segment of the arena. */
interface SegmentState extends SegmentTables {
  readonly segment: ArenaSegment;
  /** Null without momentum. */
  readonly buffer: GpuArray | null;
}

const stepKernel = columnKernel("sgd", "step");

/**
 * Stochastic gradient descent with momentum (Sutskever et al. 2013), as PyTorch has it, over one arena: two dispatches
 * where one binding holds it, of which the first decides which slices take part. Formulas: shaders/sgd.wgsl.
 */
export class SGD implements Optimizer {
  readonly arena: Arena;
  readonly #options: Required<SGDOptions>;
  readonly #states: readonly SegmentState[];
  readonly #slices: SliceSteps;
  readonly #rate: RateSlot;

  constructor(parameters: readonly Parameter[], options: SGDOptions = {}) {
    this.#options = {
      lr: 1e-3,
      momentum: 0,
      dampening: 0,
      nesterov: false,
      weightDecay: 0,
      undrawn: "authors",
      ...knownOptions("SGD", options, NAMES),
    };
    const { lr, momentum, weightDecay } = this.#options;
    checkRanges(this.#options);
    this.arena = new Arena(parameters, "SGD");
    this.#rate = new RateSlot(this.arena.gpu, "SGD", lr);
    this.#slices = new SliceSteps(this.arena);
    const buffers = momentum > 0 ? this.arena.zeros() : [];
    this.#states = this.arena.segments.map((segment, i) => ({
      segment,
      buffer: buffers[i] ?? null,
      ...segmentTables(this.arena, segment, weightDecay),
    }));
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
    const { momentum, dampening, nesterov, undrawn } = this.#options;
    this.#slices.advance(undrawn);
    const params = { momentum, share: 1 - dampening, nesterov: nesterov ? 1 : 0 };
    for (const { segment, buffer, entries, blockEntry, width } of this.#states) {
      runRows(this.arena.gpu, stepKernel(width).kernel, {
        rows: segment.length / BLOCK,
        split: {
          value: segment.values,
          gradient: segment.gradients,
          buffer,
          block_entry: blockEntry,
        },
        whole: { takes_part: this.#slices.takesPart, entries, rate: this.#rate.array },
        params: (first) => ({ ...params, first_block: first }),
        count: "blocks",
        grid: (blocks) => grid1d(Math.ceil(blocks / width)),
      });
    }
  }

  /** Momentum buffers (of no elements without momentum) and step counts. */
  async state(): Promise<Readonly<Record<"buffers" | "steps", TypedArray>>> {
    const buffers = this.#buffers();
    return {
      buffers: buffers.length > 0 ? await this.arena.read(buffers) : new Float32Array(),
      steps: await this.#slices.read(),
    };
  }

  loadState({ buffers, steps }: Readonly<Record<string, TypedArray>>): void {
    const own = this.#buffers();
    const wanted = own.length > 0 ? this.arena.length : 0;
    if (buffers?.length !== wanted || steps?.length !== this.arena.slices) {
      throw new ShapeError(
        `SGD: a state of ${buffers?.length ?? 0} buffers and ${steps?.length ?? 0} step counts; these parameters have ${wanted} and ${this.arena.slices}`,
      );
    }
    this.arena.write(own, buffers);
    this.#slices.write(steps);
  }

  dispose(): void {
    this.arena.dispose();
    this.#slices.dispose();
    this.#rate.dispose();
    for (const { buffer, entries, blockEntry } of this.#states)
      for (const array of [buffer, entries, blockEntry]) array?.release();
  }

  #buffers(): GpuArray[] {
    return this.#states.flatMap(({ buffer }) => buffer ?? []);
  }
}

/** All of them before a parameter moves: one whose optimiser was never made would belong to it for ever. */
function checkRanges({ lr, momentum, dampening, nesterov, weightDecay }: Required<SGDOptions>): void {
  const bad = (name: string, value: number, range: string): never => {
    throw new ShapeError(`SGD: ${name} is ${value}, expected ${range}`);
  };
  if (!(lr >= 0)) bad("lr", lr, "0 or more");
  if (!(momentum >= 0 && momentum < 1)) bad("momentum", momentum, "0 <= momentum < 1");
  if (!(dampening >= 0 && dampening <= 1)) bad("dampening", dampening, "0..1");
  if (!(weightDecay >= 0)) bad("weightDecay", weightDecay, "0 or more");
  if (nesterov && (momentum === 0 || dampening !== 0))
    throw new ShapeError(`SGD: nesterov needs momentum and no dampening, not ${momentum} and ${dampening}`);
}
