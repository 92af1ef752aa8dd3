import { ShapeError } from "../gpu/index.ts";
import { bfloat16ToFloat32, float32ToBfloat16, halfToFloat32, roundToHalf } from "./half.ts";

/**
 * Element types that arrays store. f16 and bf16 are for storage: kernels compute in f32. A bool takes a whole
 * word, 0 or 1: WGSL has no smaller unit to write.
 */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32" | "bool";
export type HalfType = "f16" | "bf16";

/** The host's arrays. f16 and bf16 are Float32Array there, which holds each of their values exactly; bool is Uint8Array. */
export type TypedArray =
  | Float32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/** What values are taken from: TypedArray, or the bits of halves, over memory of any kind. */
export type HostArray = Float32Array | Int32Array | Uint32Array | Uint8Array | Uint16Array;

const BYTES: Readonly<Record<DType, 2 | 4>> = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, bool: 4 };

/** Bytes of one element on the device. */
export function bytesOf(dtype: DType): 2 | 4 {
  return BYTES[dtype];
}

/** Throws unless `dtype` is one: names come from files and command lines too. */
export function checkDType(op: string, dtype: DType): void {
  if (!Object.hasOwn(BYTES, dtype))
    throw new ShapeError(`${op}: no type "${dtype}"; f32, f16, bf16, i32, u32 or bool`);
}

export function isHalf(dtype: DType): dtype is HalfType {
  return dtype === "f16" || dtype === "bf16";
}

/** Whether it has fractions, and so derivatives. */
export function isFloating(dtype: DType): boolean {
  return dtype === "f32" || isHalf(dtype);
}

/** The type that an array of the host has on the device unless another is asked for. */
export function dtypeOf(data: HostArray): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Int32Array) return "i32";
  return data instanceof Uint32Array ? "u32" : "bool";
}

/**
 * What the device stores for `data` as `dtype`: whole words, an odd last half padded with 0. Null where the
 * array does not hold that type. Floats are rounded to halves, nearest even; a Uint16Array is taken as their bits.
 */
export function encode(data: HostArray, dtype: DType): ArrayBufferView<ArrayBuffer> | null {
  switch (dtype) {
    case "f32":
      return data instanceof Float32Array ? unshared(data) : null;
    case "i32":
      return data instanceof Int32Array ? unshared(data) : null;
    case "u32":
      return data instanceof Uint32Array ? unshared(data) : null;
    case "bool":
      return data instanceof Uint8Array ? Uint32Array.from(data, (value) => (value === 0 ? 0 : 1)) : null;
    case "f16":
      return inPairs(data instanceof Float32Array ? roundToHalf(data) : data);
    case "bf16":
      return inPairs(data instanceof Float32Array ? float32ToBfloat16(data) : data);
    default:
      return dtype satisfies never;
  }
}

/** The `size` values that the device's bytes hold. */
export function decode(bytes: ArrayBuffer, dtype: DType, size: number): TypedArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes, 0, size);
    case "i32":
      return new Int32Array(bytes, 0, size);
    case "u32":
      return new Uint32Array(bytes, 0, size);
    case "bool":
      return Uint8Array.from(new Uint32Array(bytes, 0, size));
    case "f16":
      return halfToFloat32(new Uint16Array(bytes, 0, size));
    case "bf16":
      return bfloat16ToFloat32(new Uint16Array(bytes, 0, size));
    default:
      return dtype satisfies never;
  }
}

/** WebGPU reads from no memory that other threads may write to. */
function unshared(data: Float32Array | Int32Array | Uint32Array): ArrayBufferView<ArrayBuffer> {
  const own = data.buffer instanceof ArrayBuffer ? data : data.slice();
  return own as ArrayBufferView<ArrayBuffer>; // a slice is over memory of its own
}

function inPairs(data: HostArray): Uint16Array<ArrayBuffer> | null {
  if (!(data instanceof Uint16Array)) return null;
  const bits = new Uint16Array(Math.ceil(data.length / 2) * 2);
  bits.set(data);
  return bits;
}
