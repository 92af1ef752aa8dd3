import type { GpuArray, TypedArray } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { grid1d, type KernelSpec, ShapeError } from "../gpu/index.ts";
import { fill } from "../ops/index.ts";
import { Arena } from "./arena.ts";
import type { Optimizer } from "./optimizer.ts";
import { RateSlot } from "./rate-slot.ts";
import { SliceSteps, type UndrawnOptions } from "./slice-steps.ts";

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

const stepKernel: KernelSpec = { shader: "sgd", entry: "step" };

/**
 * Stochastic gradient descent with momentum (Sutskever et al. 2013), as PyTorch has it, over one arena: two dispatches,
 * of which the first decides which slices take part. Formulas: shaders/sgd.wgsl.
 */
export class SGD implements Optimizer {
  readonly arena: Arena;
  readonly #options: Required<SGDOptions>;
  readonly #slices: SliceSteps;
  readonly #rate: RateSlot;
  /** Null without momentum. */
  readonly #buffers: GpuArray | null;

  constructor(parameters: readonly Parameter[], options: SGDOptions = {}) {
    this.#options = {
      lr: 1e-3,
      momentum: 0,
      dampening: 0,
      nesterov: false,
      weightDecay: 0,
      undrawn: "authors",
      ...options,
    };
    checkRanges(this.#options);
    this.arena = new Arena(parameters);
    const { gpu } = this.arena;
    this.#rate = new RateSlot(gpu, "SGD", this.#options.lr);
    this.#slices = new SliceSteps(this.arena, this.#options.weightDecay);
    this.#buffers = this.#options.momentum > 0 ? gpu.empty([this.arena.length]).under("optimiser") : null;
    if (this.#buffers) fill(gpu, this.#buffers);
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
    if (lr !== undefined) this.setLearningRate(lr);
    const { momentum, dampening, nesterov, undrawn } = this.#options;
    const { gpu, values, gradients, length } = this.arena;
    this.#slices.advance(undrawn);
    const arrays = {
      value: values,
      gradient: gradients,
      buffer: this.#buffers,
      takes_part: this.#slices.takesPart,
      entries: this.#slices.entries,
      block_entry: this.#slices.blockEntry,
      rate: this.#rate.array,
    };
    const params = { n: length, momentum, share: 1 - dampening, nesterov: nesterov ? 1 : 0 };
    gpu.run(stepKernel, arrays, params, grid1d(length / 64));
  }

  /** Momentum buffers (of no elements without momentum) and step counts. */
  async state(): Promise<Readonly<Record<"buffers" | "steps", TypedArray>>> {
    const buffers = this.#buffers ? await this.arena.gpu.read(this.#buffers) : new Float32Array();
    return { buffers, steps: await this.#slices.read() };
  }

  loadState({ buffers, steps }: Readonly<Record<string, TypedArray>>): void {
    const wanted = this.#buffers ? this.arena.length : 0;
    if (buffers?.length !== wanted || steps?.length !== this.arena.slices) {
      throw new ShapeError(
        `SGD: a state of ${buffers?.length ?? 0} buffers and ${steps?.length ?? 0} step counts; these parameters have ${wanted} and ${this.arena.slices}`,
      );
    }
    if (this.#buffers) this.arena.gpu.write(this.#buffers, buffers);
    this.#slices.write(steps);
  }

  dispose(): void {
    this.arena.dispose();
    this.#slices.dispose();
    this.#rate.dispose();
    this.#buffers?.release();
  }
}

function checkRanges({ momentum, dampening, nesterov, weightDecay }: Required<SGDOptions>): void {
  const bad = (name: string, value: number, range: string): never => {
    throw new ShapeError(`SGD: ${name} is ${value}, expected ${range}`);
  };
  if (!(momentum >= 0 && momentum < 1)) bad("momentum", momentum, "0 <= momentum < 1");
  if (!(dampening >= 0 && dampening <= 1)) bad("dampening", dampening, "0..1");
  if (!(weightDecay >= 0)) bad("weightDecay", weightDecay, "0 or more");
  if (nesterov && (momentum === 0 || dampening !== 0))
    throw new ShapeError(`SGD: nesterov needs momentum and no dampening, not ${momentum} and ${dampening}`);
}
