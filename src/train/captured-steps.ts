import type { Gpu } from "../array/index.ts";
import { type CapturedStep, capture, type Tensor, tidy } from "../autograd/index.ts";
import { CaptureRegion } from "../gpu/index.ts";

export interface CapturedStepsOptions {
  /** Whether steps are captured at all. Default true. */
  readonly capture?: boolean | undefined;
  /**
   * Most steps held at once; the one that was not used for longest makes room. Default 64: lengths up to 512 in
   * multiples of 8.
   */
  readonly limit?: number;
}

/**
 * Training steps by the shape of their batch: each is run, then recorded, then replayed. They use the same memory in
 * turn. A loop with more shapes than the limit, each seen once, runs as if nothing were captured.
 */
export class CapturedSteps {
  readonly #gpu: Gpu;
  readonly #region = new CaptureRegion();
  readonly #limit: number;
  /** The one used last comes last. */
  readonly #steps = new Map<string, CapturedStep<Tensor>>();
  #result: Tensor | null = null;

  constructor(gpu: Gpu, { capture = true, limit = 64 }: CapturedStepsOptions = {}) {
    this.#gpu = gpu;
    this.#limit = capture ? limit : 0;
  }

  /** How many steps are held. */
  get size(): number {
    return this.#steps.size;
  }

  /**
   * Runs the step of a shape and gives its result, which is good for reads that begin before the next run().
   * `step` must be the same function of the same tensors for the same shape: later ones are not called.
   */
  run(shape: string, step: () => Tensor): Tensor {
    if (this.#limit === 0) {
      this.#result?.dispose();
      this.#result = tidy(step);
      return this.#result;
    }
    let known = this.#steps.get(shape);
    if (known) this.#steps.delete(shape);
    else {
      if (this.#steps.size >= this.#limit) this.#dropOldest();
      known = capture(this.#gpu, step, { region: this.#region });
    }
    this.#steps.set(shape, known);
    known.run();
    return known.output;
  }

  dispose(): void {
    for (const step of this.#steps.values()) step.dispose();
    this.#steps.clear();
    this.#result?.dispose();
    this.#result = null;
  }

  #dropOldest(): void {
    const [oldest] = this.#steps;
    if (!oldest) return;
    this.#steps.delete(oldest[0]);
    oldest[1].dispose();
  }
}
