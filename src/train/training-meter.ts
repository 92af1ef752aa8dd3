/** Time per step, without pauses for evaluation. */
export class TrainingMeter {
  readonly #steps: number;
  readonly #batchSize: number;
  #started = performance.now();

  constructor(steps: number, batchSize: number) {
    this.#steps = steps;
    this.#batchSize = batchSize;
  }

  elapsedMs(): number {
    return performance.now() - this.#started;
  }

  pause(ms: number): void {
    this.#started += ms;
  }

  read(step: number): {
    readonly steps: number;
    readonly examplesPerSecond: number;
    readonly remainingMs: number;
  } {
    const elapsedMs = this.elapsedMs();
    return {
      steps: this.#steps,
      examplesPerSecond: (step * this.#batchSize * 1000) / elapsedMs,
      remainingMs: (elapsedMs / step) * (this.#steps - step),
    };
  }
}
