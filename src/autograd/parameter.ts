import {
  type DType,
  type Gpu,
  type GpuArray,
  type HalfType,
  type Shape,
  showShape,
  type TypedArray,
} from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import { accumulate, castArray } from "../ops/index.ts";
import { untrack } from "./scope.ts";
import { Tensor } from "./tensor.ts";

export interface ParameterOptions {
  /** Slices along the first dimension with an optimiser state of their own: the experts of a bank. Default 1. */
  readonly slices?: number;
  /** Whether weight decay applies. Default: to tensors of two or more dimensions (three for a bank). */
  readonly decay?: boolean;
}

/**
 * A tensor that a module owns: it outlives every tidy(), and an optimiser may move it into its arena.
 */
export class Parameter extends Tensor {
  readonly slices: number;
  readonly decay: boolean;
  /** u32 [slices] in an optimiser's arena: which slices this step has used. Null: all, always. */
  drawn: GpuArray | null = null;
  #slot: GpuArray | null = null;

  constructor(gpu: Gpu, array: GpuArray, { slices = 1, decay }: ParameterOptions = {}) {
    super(gpu, array, null, true);
    untrack(this);
    this.slices = slices;
    this.decay = decay ?? array.shape.length - (slices > 1 ? 1 : 0) > 1;
  }

  /** Moves values and gradient into views of an optimiser's arenas, which the parameter then owns. */
  moveTo(values: GpuArray, gradient: GpuArray): void {
    this.replaceArray(values);
    this.#slot = gradient;
    this.grad = new Tensor(this.gpu, gradient);
  }

  /** Stores the values in another floating type. For frozen parameters: an optimiser's are f32. */
  convert(dtype: HalfType | "f32"): void {
    if (dtype === this.dtype) return;
    if (this.#slot)
      throw new GpuError(`parameter ${showShape(this.shape)}: it lies in an optimiser's arena, which is f32`);
    const converted = this.gpu.scope(
      () => castArray(this.gpu, this.array, dtype),
      (made) => [made],
    );
    this.replaceArray(converted);
  }

  override receive(dy: GpuArray): void {
    if (this.#slot) accumulate(this.gpu, this.#slot, dy);
    else super.receive(dy);
  }

  /** A parameter holding a copy of `data`. `dtype` f16 or bf16: for frozen weights, which then take half the memory. */
  static from(
    gpu: Gpu,
    data: TypedArray,
    shape: Shape,
    { dtype, ...options }: ParameterOptions & { readonly dtype?: DType } = {},
  ): Parameter {
    return new Parameter(gpu, gpu.from(data, shape, dtype), options);
  }
}
