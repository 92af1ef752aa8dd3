import {
  checkDType,
  type DType,
  dtypeOf,
  type Gpu,
  type HostArray,
  isHalf,
  knownOptions,
  type OptionNames,
  type Shape,
  showShape,
  sizeOf,
  whatValues,
} from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { castArray, copyInto, fill, wordOf, zeros as zeroArray } from "../ops/index.ts";
import { checkGpu } from "./describe.ts";
import { Stream } from "./random.ts";
import { Tensor } from "./tensor.ts";

/** Values for a new tensor: numbers make f32, booleans and Uint8Array bool. */
export type Values = Exclude<HostArray, Uint16Array> | readonly number[] | readonly boolean[];

export interface CreationOptions {
  /** Default f32. */
  readonly dtype?: DType;
}
const CREATION: OptionNames<CreationOptions> = { dtype: true };

/**
 * A tensor with a copy of `values`. `shape` defaults to [length], `dtype` to the values' own; another is cast to on the
 * host: floats to f16 or bf16 (nearest even), numbers to i32 or u32 (toward 0), to bool by value != 0.
 */
export function tensor(gpu: Gpu, values: Values, shape?: Shape, options: CreationOptions = {}): Tensor {
  const { dtype } = knownOptions("tensor", options, CREATION);
  checkGpu("tensor", gpu);
  if (dtype !== undefined) checkDType("tensor", dtype);
  if (shape !== undefined) checkShape("tensor", shape);
  const data = hostValues(values, dtype);
  return new Tensor(gpu, gpu.from(data, shape ?? [data.length], dtype));
}

/** A shape, and not what comes behind it: the type is one of the options. */
function checkShape(op: string, shape: unknown): void {
  if (Array.isArray(shape)) return;
  const type = typeof shape === "string" ? '; a type goes into the options: { dtype: "i32" }' : "";
  throw new ShapeError(`${op}: ${String(shape)} is no shape; pass a list of sizes, such as [2, 3]${type}`);
}

const STORED = [Float32Array, Int32Array, Uint32Array, Uint8Array] as const;

function checkValues(values: unknown): void {
  if (!Array.isArray(values) && !STORED.some((kind) => values instanceof kind))
    throw new ShapeError(`tensor: ${whatValues(values)}`);
  if (!Array.isArray(values)) return;
  const inner: unknown = values.find((value) => typeof value !== "number" && typeof value !== "boolean");
  if (Array.isArray(inner)) {
    throw new ShapeError(
      `tensor: nested lists; pass one list and a shape: tensor(gpu, values.flat(), ${showShape([values.length, inner.length])})`,
    );
  }
  if (inner !== undefined)
    throw new ShapeError(`tensor: a list with a ${typeof inner} in it, expected numbers or booleans`);
}

function hostValues(values: Values, dtype?: DType): Exclude<HostArray, Uint16Array> {
  checkValues(values);
  const isList = Array.isArray(values);
  const own = isList ? (typeof values[0] === "boolean" ? "bool" : "f32") : dtypeOf(values as HostArray);
  const wanted = dtype ?? own;
  // A typed array of the type asked for is taken as it is. Lists of booleans are 0 and 1 as numbers.
  if (!isList && wanted === own) return values as Exclude<HostArray, Uint16Array>;
  const numbers = values as ArrayLike<number>;
  if (wanted === "i32") return Int32Array.from(numbers);
  if (wanted === "u32") return Uint32Array.from(numbers);
  if (wanted === "bool") return Uint8Array.from(numbers, (value) => (Number(value) === 0 ? 0 : 1));
  return Float32Array.from(numbers);
}

/** A tensor of one value, filled on the device. */
export function full(gpu: Gpu, shape: Shape, value: number, options: CreationOptions = {}): Tensor {
  return filled("full", gpu, shape, value, options);
}

function filled(
  op: string,
  gpu: Gpu,
  shape: Shape,
  value: number,
  options: CreationOptions,
  usual: DType = "f32",
): Tensor {
  const { dtype = usual } = knownOptions(op, options, CREATION);
  checkGpu(op, gpu);
  checkDType(op, dtype);
  checkShape(op, shape);
  const made = gpu.scope(
    () => {
      const whole = gpu.empty(shape, isHalf(dtype) ? "f32" : dtype);
      fill(gpu, whole, wordOf(op, dtype, value));
      return castArray(gpu, whole, dtype);
    },
    (array) => [array],
  );
  return new Tensor(gpu, made);
}

export function zeros(gpu: Gpu, shape: Shape, options: CreationOptions = {}): Tensor {
  return filled("zeros", gpu, shape, 0, options);
}

export function ones(gpu: Gpu, shape: Shape, options: CreationOptions = {}): Tensor {
  return filled("ones", gpu, shape, 1, options);
}

/** Zeros of the shape, the type and the device of x. */
export const zerosLike = (x: Tensor, options: CreationOptions = {}): Tensor =>
  filled("zerosLike", x.gpu, x.shape, 0, options, x.dtype);
/** Ones of the shape, the type and the device of x. */
export const onesLike = (x: Tensor, options: CreationOptions = {}): Tensor =>
  filled("onesLike", x.gpu, x.shape, 1, options, x.dtype);

/** Normal numbers (mean 0, deviation 1) of a stream, drawn on the host: the same stream gives the same tensor. */
export function randn(gpu: Gpu, shape: Shape, stream: Stream, options: CreationOptions = {}): Tensor {
  const { dtype } = knownOptions("randn", options, CREATION);
  checkShape("randn", shape);
  if (!(stream instanceof Stream))
    throw new ShapeError("randn: no stream; pass one: randn(gpu, shape, Stream.seed(0))");
  return tensor(gpu, stream.normal(sizeOf(shape)), shape, { dtype: dtype ?? "f32" });
}

/** start, start + step, ... up to `end`, which is not included: found in float64, then rounded. */
export function arange(
  gpu: Gpu,
  start: number,
  end: number,
  options: CreationOptions & { readonly step?: number } = {},
): Tensor {
  const { step = 1, dtype = "f32" } = knownOptions("arange", options, { ...CREATION, step: true });
  const n = Math.max(Math.ceil((end - start) / step), 0);
  if (!Number.isFinite(n)) throw new ShapeError(`arange: ${start} to ${end} by ${step} does not end`);
  const values = Float64Array.from({ length: n }, (_, i) => start + i * step);
  return tensor(gpu, [...values], [n], { dtype });
}

/** 1 on the main diagonal, else 0: [rows, columns]. */
export function eye(gpu: Gpu, rows: number, columns = rows, options: CreationOptions = {}): Tensor {
  const { dtype = "f32" } = knownOptions("eye", options, CREATION);
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
