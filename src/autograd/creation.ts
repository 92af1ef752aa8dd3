import { type DType, type Gpu, type Shape, wordOf } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { castArray, copyInto, fill, zeros as zeroArray } from "../ops/index.ts";
import { Tensor, tensor } from "./tensor.ts";

/** Tensors that are made from numbers. For values of your own: tensor(). */

export interface CreationOptions {
  /** Default f32. */
  readonly dtype?: DType;
}

/** A tensor of one value: filled on the device. */
export function full(gpu: Gpu, shape: Shape, value: number, { dtype = "f32" }: CreationOptions = {}): Tensor {
  const array = gpu.empty(shape, dtype);
  fill(gpu, array, wordOf(value, dtype));
  return new Tensor(gpu, array);
}

export function zeros(gpu: Gpu, shape: Shape, options?: CreationOptions): Tensor {
  return full(gpu, shape, 0, options);
}

export function ones(gpu: Gpu, shape: Shape, options?: CreationOptions): Tensor {
  return full(gpu, shape, 1, options);
}

/** start, start + step, ... up to `end`, which is not included: found in float64, then rounded. */
export function arange(
  gpu: Gpu,
  start: number,
  end: number,
  { step = 1, dtype = "f32" }: CreationOptions & { readonly step?: number } = {},
): Tensor {
  const n = Math.max(Math.ceil((end - start) / step), 0);
  if (!Number.isFinite(n)) throw new ShapeError(`arange: ${start} to ${end} by ${step} does not end`);
  const values = Float64Array.from({ length: n }, (_, i) => start + i * step);
  return tensor(gpu, [...values], [n], { dtype });
}

/** 1 on the main diagonal, else 0: [rows, columns]. */
export function eye(gpu: Gpu, rows: number, columns = rows, { dtype = "f32" }: CreationOptions = {}): Tensor {
  const made = gpu.scope(
    () => {
      const matrix = zeroArray(gpu, [rows, columns]);
      const n = Math.min(rows, columns);
      copyInto(gpu, gpu.ones(n), gpu.view(matrix, [n], 0, [columns + 1]));
      return castArray(gpu, matrix, dtype);
    },
    (array) => [array],
  );
  return new Tensor(gpu, made);
}
