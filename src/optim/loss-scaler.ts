import { type Gpu, type GpuArray, isFloating, knownOptions, type OptionNames } from "../array/index.ts";
import { keep, mul, Tensor } from "../autograd/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { fill, runRows, threads } from "../ops/index.ts";
import type { Arena } from "./arena.ts";

export interface LossScalerOptions {
  /** The first scale. Default 65,536. */
  readonly initial?: number;
  /** Factor after `interval` steps without overflow. Default 2. */
  readonly growth?: number;
  /** Factor after a step with overflow. Default 0.5. */
  readonly backoff?: number;
  /** Steps without overflow after which the scale grows. Default 2,000. */
  readonly interval?: number;
}
const NAMES: OptionNames<LossScalerOptions> = { initial: true, growth: true, backoff: true, interval: true };

const unscaleKernel: KernelSpec = { shader: "loss_scale", entry: "unscale" };
const updateKernel: KernelSpec = { shader: "loss_scale", entry: "update" };

/**
 * Dynamic loss scaling for training with f16 activations: small gradients, which f16 would round to 0, are kept by
 * scaling the loss; a step whose gradients overflow is left out and the scale reduced. Whether they did is found and
 * acted on on the GPU, so a step reads nothing back. PyTorch's GradScaler, with its defaults.
 *
 *     tidy(() => scaler.scale(loss).backward());
 *     scaler.unscale(optimiser.arena);
 *     clipGradNorm(optimiser.arena, 1).dispose();
 *     optimiser.step(lr); // left out where a gradient was not finite
 *     scaler.update();
 */
export class LossScaler {
  readonly #gpu: Gpu;
  readonly #options: Required<LossScalerOptions>;
  /** f32 [2]: the scale, steps since it last moved. */
  readonly #state: Tensor;
  readonly #scale: Tensor;
  #skip: GpuArray | null = null;

  constructor(gpu: Gpu, options: LossScalerOptions = {}) {
    this.#gpu = gpu;
    this.#options = {
      initial: 65_536,
      growth: 2,
      backoff: 0.5,
      interval: 2000,
      ...knownOptions("LossScaler", options, NAMES),
    };
    const { initial, growth, backoff, interval } = this.#options;
    expectRange("initial", initial, initial > 0 && Number.isFinite(initial), "more than 0");
    expectRange("growth", growth, growth >= 1, "1 or more");
    expectRange("backoff", backoff, backoff > 0 && backoff <= 1, "0 < backoff <= 1");
    expectRange("interval", interval, Number.isInteger(interval) && interval > 0, "1 or more steps");
    const state = gpu.from(Float32Array.of(initial, 0));
    this.#state = new Tensor(gpu, state);
    this.#scale = new Tensor(gpu, state.view([]));
    keep(this.#state);
    keep(this.#scale);
  }

  /** loss · scale: what backward starts from. */
  scale(loss: Tensor): Tensor {
    if (!isFloating(loss.dtype)) throw new ShapeError(`LossScaler: a loss of ${loss.dtype}`);
    return mul(loss.to("f32"), this.#scale);
  }

  /** Divides the collected gradients by the scale, and marks the step to be left out where one is not finite. */
  unscale(arena: Arena): void {
    this.#skip = arena.skip;
    fill(this.#gpu, arena.skip);
    const { growth, backoff, interval } = this.#options;
    for (const { gradients, length } of arena.segments) {
      runRows(this.#gpu, unscaleKernel, {
        rows: length,
        split: { gradient: gradients },
        whole: { state_saved: this.#state.array, skip: arena.skip },
        params: { growth, backoff, interval },
        count: "n",
        grid: threads,
      });
    }
  }

  /** Moves the scale by what `unscale` found. After the optimiser's step. */
  update(): void {
    if (!this.#skip) throw new ShapeError("LossScaler: update() comes after unscale()");
    const { growth, backoff, interval } = this.#options;
    const arrays = { skip_saved: this.#skip, state: this.#state.array };
    this.#gpu.run(updateKernel, arrays, { n: 0, growth, backoff, interval }, [1, 1, 1]);
  }

  /** Reads the present scale, and the number of steps since it last moved. */
  async state(): Promise<{ readonly scale: number; readonly steps: number }> {
    const [scale, steps] = await this.#state.data();
    return { scale: scale as number, steps: steps as number };
  }

  /** Takes back what `state` gave. */
  loadState({ scale, steps }: { readonly scale: number; readonly steps: number }): void {
    expectRange("scale", scale, scale > 0 && Number.isFinite(scale), "more than 0");
    this.#state.write(Float32Array.of(scale, steps));
  }

  dispose(): void {
    this.#scale.dispose();
    this.#state.dispose();
  }
}

function expectRange(name: string, value: number, holds: boolean, range: string): void {
  if (!holds) throw new ShapeError(`LossScaler: ${name} is ${value}, expected ${range}`);
}
