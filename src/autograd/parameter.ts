import {
  type DType,
  type Gpu,
  type GpuArray,
  type HalfType,
  type HostArray,
  knownOptions,
  type OptionNames,
  type Shape,
  showShape,
} from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import { accumulate, castArray, copyInto, fill } from "../ops/index.ts";
import { checkGpu } from "./describe.ts";
import { DERIVED } from "./pass.ts";
import { untrack } from "./scope.ts";
import { Tensor } from "./tensor.ts";

export interface ParameterOptions {
  /** Slices along the first dimension with an optimiser state of their own: the experts of a bank. Default 1. */
  readonly slices?: number;
  /** Whether weight decay applies. Default: to tensors of two or more dimensions (three for a bank). */
  readonly decay?: boolean;
}
const PARAMETER: OptionNames<ParameterOptions> = { slices: true, decay: true };

/** Writes a parameter part by part; see partWriter. */
export interface PartWriter {
  readonly dtype: HalfType | "f32";
  write(part: Float32Array | Uint16Array): void;
  /** Throws unless every element was written. */
  end(): void;
}

/**
 * A tensor that a module owns: it outlives every tidy(), and an optimiser may move it into its arena.
 */
export class Parameter extends Tensor {
  readonly slices: number;
  readonly decay: boolean;
  /** The arena that it is updated in; null outside of one, and once that is disposed. */
  holder: object | null = null;
  #drawn: GpuArray | null = null;
  #place: GpuArray | null = null;
  /** The epoch in which the place holds zeros, so that a gradient may be written there and need not be added. */
  #zeroEpoch: number | null = null;

  constructor(gpu: Gpu, array: GpuArray, options: ParameterOptions = {}) {
    const { slices = 1, decay } = knownOptions("Parameter", options, PARAMETER);
    super(gpu, array.under("parameters"), null, true);
    untrack(this);
    this.slices = slices;
    this.decay = decay ?? array.shape.length - (slices > 1 ? 1 : 0) > 1;
  }

  /** Stores the values in another floating type. For frozen parameters: an optimiser's are f32. */
  convert(dtype: HalfType | "f32"): void {
    if (dtype === this.dtype) return;
    if (this.#place)
      throw new GpuError(`parameter ${showShape(this.shape)}: it lies in an optimiser's arena, which is f32`);
    const converted = this.gpu.scope(
      () => castArray(this.gpu, this.array, dtype),
      (made) => [made],
    );
    this.replaceArray(converted.under("parameters"));
  }

  /**
   * Takes values in parts, in order, and stores them in the floating type `dtype`. What was there is given up first, so
   * that the device never holds the parameter twice, nor the host more than a part. Parts but the last have an even
   * number of elements: the device is written in words.
   */
  partWriter(dtype: HalfType | "f32"): PartWriter {
    if (dtype !== this.dtype) {
      if (this.#place)
        throw new GpuError(
          `parameter ${showShape(this.shape)}: it lies in an optimiser's arena, which is f32`,
        );
      this.replaceArray(this.gpu.zeros(this.shape, dtype).under("parameters"));
    }
    let at = 0;
    return {
      dtype,
      write: (part) => {
        const place = this.array.view([part.length], this.array.offset + at);
        try {
          this.gpu.write(place, part);
        } finally {
          place.release();
        }
        at += part.length;
      },
      end: () => {
        if (at !== this.size)
          throw new ShapeError(`parameter: ${at} values for ${showShape(this.shape)} (${this.size})`);
      },
    };
  }

  /** A parameter holding a copy of `data`. `dtype` f16 or bf16: for frozen weights, which then take half the memory. */
  static from(
    gpu: Gpu,
    data: Exclude<HostArray, Uint16Array>,
    shape: Shape,
    { dtype, ...options }: ParameterOptions & { readonly dtype?: DType } = {},
  ): Parameter {
    checkGpu("Parameter", gpu);
    return new Parameter(gpu, gpu.from(data, shape, dtype), options);
  }

  /** A parameter of zeros. Its memory is taken when it is first used. */
  static zeros(gpu: Gpu, shape: Shape, options: ParameterOptions = {}): Parameter {
    checkGpu("Parameter", gpu);
    return new Parameter(gpu, gpu.zeros(shape), options);
  }

  override get drawn(): GpuArray | null {
    return this.#drawn;
  }

  /** Takes over the values of another tensor of its shape. No gradient flows. */
  setTo(other: Tensor): void {
    if (!this.array.hasShape(other.shape))
      throw new ShapeError(
        `parameter: values ${showShape(other.shape)} for a parameter ${showShape(this.shape)}`,
      );
    this.gpu.scope(
      () => copyInto(this.gpu, castArray(this.gpu, other.array, this.dtype), this.array),
      () => [],
    );
  }

  /**
   * Moves values and gradient into views of an optimiser's arenas, which the parameter then owns. `drawn`: u32
   * [slices], which slices gradients have reached since they were zeroed; null: all, always.
   */
  moveTo(values: GpuArray, gradient: GpuArray, drawn: GpuArray | null = null): void {
    this.replaceArray(values);
    super.grad = new Tensor(this.gpu, gradient).withoutHistory(DERIVED);
    this.#place = gradient;
    this.#zeroEpoch = null;
    this.#drawn?.release();
    this.#drawn = drawn;
  }

  /** Says that all of an arena's gradients were set to zero just now. */
  gradientsZeroed(gradients: GpuArray): void {
    if (this.#place?.storage === gradients.storage) this.#zeroEpoch = this.gpu.device.captures.epoch;
  }

  /**
   * The gradient collected so far; null before the first backward, zeros in an arena. What is set in an arena is
   * copied there (and then freed); null there is zeros.
   */
  override get grad(): Tensor | null {
    this.#zeroEpoch = null; // Whoever holds it may write to it.
    return super.grad;
  }

  override set grad(gradient: Tensor | null) {
    const place = this.#place;
    if (!place) super.grad = gradient;
    else if (gradient !== super.grad) this.#setPlace(place, gradient);
  }

  override takePlace(): GpuArray | null {
    // A captured step would write to the place in each replay, whether it holds zeros then or not.
    if (this.#zeroEpoch !== this.gpu.device.captures.epoch || this.hooks) return null;
    this.#zeroEpoch = null;
    return this.#place;
  }

  override takeTotal(): GpuArray | null {
    if (!this.#place) return super.takeTotal();
    this.#zeroEpoch = null;
    return this.#place;
  }

  override receive(dy: GpuArray): void {
    const place = this.#place;
    this.#zeroEpoch = null;
    if (place) accumulate(this.gpu, place, dy);
    else super.receive(dy);
  }

  override dispose(): void {
    super.dispose();
    this.#drawn?.release();
    this.#drawn = this.#place = null;
  }

  #setPlace(place: GpuArray, gradient: Tensor | null): void {
    if (!gradient) {
      fill(this.gpu, place);
      this.#zeroEpoch = this.gpu.device.captures.epoch;
      return;
    }
    if (!place.hasShape(gradient.shape)) {
      throw new ShapeError(
        `parameter: a gradient ${showShape(gradient.shape)} for ${showShape(place.shape)}`,
      );
    }
    this.gpu.scope(
      () => copyInto(this.gpu, gradient.array, place),
      () => [],
    );
    this.#zeroEpoch = null;
    if (this.#drawn) fill(this.gpu, this.#drawn, 1);
    gradient.dispose();
  }
}
