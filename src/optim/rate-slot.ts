import type { Gpu, GpuArray } from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";

/**
 * A learning rate in memory that kernels read, so that a captured step can be replayed with another one. Optimisers
 * hold one each.
 */
export class RateSlot {
  readonly #gpu: Gpu;
  readonly #name: string;
  /** f32, of at least one element: the rate is the first. */
  readonly array: GpuArray;
  #rate: number;

  /** `name`: the optimiser's, for messages. `array`: memory of the optimiser's own; default: new memory of one element. */
  constructor(gpu: Gpu, name: string, rate: number, array?: GpuArray) {
    this.#gpu = gpu;
    this.#name = name;
    this.#check(rate);
    this.#rate = rate;
    this.array = array ?? gpu.empty([1]).under("optimiser");
    this.#write();
  }

  get rate(): number {
    return this.#rate;
  }

  /** Writes the rate of the steps that follow. Nothing is written twice. */
  set(rate: number): void {
    this.#check(rate);
    if (this.#gpu.device.captures.isCapturing) {
      throw new GpuError(
        `${this.#name}: a captured step would keep the rate ${rate} for ever; call setLearningRate() before its run(), and step() without a rate inside`,
      );
    }
    if (rate === this.#rate) return;
    this.#rate = rate;
    this.#write();
  }

  dispose(): void {
    this.array.release();
  }

  #check(rate: number): void {
    if (!(rate >= 0)) throw new ShapeError(`${this.#name}: lr is ${rate}, expected 0 or more`);
  }

  #write(): void {
    const gpu = this.#gpu;
    gpu.scope(
      () => gpu.write(gpu.view(this.array, [1]), Float32Array.of(this.#rate)),
      () => [],
    );
  }
}
