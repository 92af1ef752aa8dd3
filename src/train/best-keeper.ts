import type { Parameter } from "../autograd/index.ts";

/** Holds a copy of the parameters of the best evaluation, on the host. */
export class BestKeeper {
  readonly #parameters: readonly Parameter[];
  #copies: Float32Array[] = [];
  best: { step: number; score: number } | null = null;

  constructor(parameters: readonly Parameter[]) {
    this.#parameters = parameters;
  }

  async offer(step: number, score: number): Promise<void> {
    if (this.best && score <= this.best.score) return;
    this.best = { step, score };
    this.#copies = [];
    for (const parameter of this.#parameters) this.#copies.push((await parameter.data()) as Float32Array);
  }

  restore(): void {
    for (const [i, copy] of this.#copies.entries()) this.#parameters[i]?.write(Float32Array.from(copy));
  }
}
