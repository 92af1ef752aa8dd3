import type { Parameter } from "../autograd/index.ts";

/**
 * Holds a copy of the parameters of the best evaluation, on the host. Of equal scores the first: on a small dev set many
 * are equal, and what trained less has fitted itself less to the training data.
 */
export class BestKeeper {
  readonly #parameters: readonly Parameter[];
  #copies: Float32Array[] = [];
  best: { step: number; score: number } | null = null;

  constructor(parameters: readonly Parameter[]) {
    this.#parameters = parameters;
  }

  async offer(step: number, score: number): Promise<void> {
    if (Number.isNaN(score))
      throw new RangeError(
        `evaluate: the score of step ${step} is NaN; give a number, the higher the better`,
      );
    if (this.best && score <= this.best.score) return;
    this.best = { step, score };
    this.#copies = [];
    for (const parameter of this.#parameters) this.#copies.push((await parameter.data()) as Float32Array);
  }

  restore(): void {
    for (const [i, copy] of this.#copies.entries()) this.#parameters[i]?.write(Float32Array.from(copy));
  }
}
