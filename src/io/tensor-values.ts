import { bfloat16ToFloat32, type DType, halfToFloat32 } from "../array/index.ts";
import { FormatError } from "./format-error.ts";
import type { RawTensor, SafetensorsDtype } from "./safetensors.ts";

/**
 * The values as f32. F32 is a view of the file's bytes where they are aligned, otherwise a copy; F16 and BF16
 * are widened exactly; F64 is rounded. Integers and BOOL throw: read them with `toInt32`.
 */
export function toFloat32(tensor: RawTensor): Float32Array {
  const { dtype, bytes } = tensor;
  switch (dtype) {
    case "F32":
      return new Float32Array(...aligned(bytes, 4));
    case "F64":
      return new Float32Array(new Float64Array(...aligned(bytes, 8)));
    case "F16":
      return halfToFloat32(new Uint16Array(...aligned(bytes, 2)));
    case "BF16":
      return bfloat16ToFloat32(new Uint16Array(...aligned(bytes, 2)));
    case "I64":
    case "I32":
    case "U32":
    case "I16":
    case "U16":
    case "I8":
    case "U8":
    case "BOOL":
      throw new FormatError(
        `toFloat32: ${dtype} [${tensor.shape.join(", ")}] is not floating point; use toInt32`,
      );
    default:
      return dtype satisfies never;
  }
}

/** The bits of a tensor that holds that half type, a view of the file's bytes where they are aligned; null for any other. */
export function toHalfBits({ dtype, bytes }: RawTensor, wanted: DType): Uint16Array | null {
  const holds = dtype === "F16" ? "f16" : dtype === "BF16" ? "bf16" : null;
  return holds === wanted ? new Uint16Array(...aligned(bytes, 2)) : null;
}

/**
 * The values as i32. I32 is a view of the file's bytes where they are aligned, otherwise a copy.
 * A value of I64 or U32 outside -2^31 ... 2^31 - 1 throws, and so do floating-point tensors.
 */
export function toInt32(tensor: RawTensor): Int32Array {
  const { dtype, bytes } = tensor;
  switch (dtype) {
    case "I32":
      return new Int32Array(...aligned(bytes, 4));
    case "I64":
      return narrow(new BigInt64Array(...aligned(bytes, 8)), dtype);
    case "U32":
      return narrow(new Uint32Array(...aligned(bytes, 4)), dtype);
    case "I16":
      return new Int32Array(new Int16Array(...aligned(bytes, 2)));
    case "U16":
      return new Int32Array(new Uint16Array(...aligned(bytes, 2)));
    case "I8":
      return new Int32Array(new Int8Array(...aligned(bytes, 1)));
    case "U8":
    case "BOOL":
      return new Int32Array(bytes);
    case "F64":
    case "F32":
    case "F16":
    case "BF16":
      throw new FormatError(
        `toInt32: ${dtype} [${tensor.shape.join(", ")}] is not an integer type; use toFloat32`,
      );
    default:
      return dtype satisfies never;
  }
}

function narrow(values: BigInt64Array | Uint32Array, dtype: SafetensorsDtype): Int32Array {
  const out = new Int32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = Number(values[i]);
    if ((value | 0) !== value) {
      throw new FormatError(`toInt32: ${dtype} value ${values[i]} at [${i}] does not fit 32 bits`);
    }
    out[i] = value;
  }
  return out;
}

/** Arguments of a typed array over `bytes`: over the same memory if aligned, else over a copy. */
function aligned(bytes: Uint8Array, unit: number): [ArrayBufferLike, number, number] {
  const { buffer, byteOffset } = bytes.byteOffset % unit === 0 ? bytes : new Uint8Array(bytes);
  return [buffer, byteOffset, bytes.length / unit];
}
