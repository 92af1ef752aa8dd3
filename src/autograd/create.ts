import { type DType, dtypeOf, type Gpu, type Shape, type TypedArray } from "../array/index.ts";
import { zeros } from "../ops/index.ts";
import { Tensor } from "./tensor.ts";

/** Values for a new tensor: numbers make f32, booleans and Uint8Array bool. */
export type Values = TypedArray | readonly number[] | readonly boolean[];

/**
 * A tensor with a copy of `values`. `shape` defaults to [length], `dtype` to the values' own; another is cast to on the
 * host: floats to f16 or bf16 (nearest even), numbers to i32 or u32 (toward 0), to bool by value != 0.
 */
export function tensor(gpu: Gpu, values: Values, shape?: Shape, { dtype }: { dtype?: DType } = {}): Tensor {
  const data = hostValues(values, dtype);
  return new Tensor(gpu, gpu.from(data, shape ?? [data.length], dtype));
}

function hostValues(values: Values, dtype?: DType): TypedArray {
  const isList = Array.isArray(values);
  const own = isList ? (typeof values[0] === "boolean" ? "bool" : "f32") : dtypeOf(values as TypedArray);
  const wanted = dtype ?? own;
  // A typed array of the type asked for is taken as it is. Lists of booleans are 0 and 1 as numbers.
  if (!isList && wanted === own) return values as TypedArray;
  const numbers = values as ArrayLike<number>;
  if (wanted === "i32") return Int32Array.from(numbers);
  if (wanted === "u32") return Uint32Array.from(numbers);
  if (wanted === "bool") return Uint8Array.from(numbers, (value) => (Number(value) === 0 ? 0 : 1));
  return Float32Array.from(numbers);
}

/** A tensor of zeros. */
export function zerosTensor(gpu: Gpu, shape: Shape): Tensor {
  return new Tensor(gpu, zeros(gpu, shape));
}
