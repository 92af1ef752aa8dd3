/** Element types that arrays store; each takes four bytes. */
export type DType = "f32" | "i32" | "u32";

/** The host's array for each element type. */
export type TypedArray = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

export function typedArrayOf(dtype: DType, bytes: ArrayBuffer): TypedArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes);
    case "i32":
      return new Int32Array(bytes);
    case "u32":
      return new Uint32Array(bytes);
    default:
      return dtype satisfies never;
  }
}

export function dtypeOf(data: TypedArray): DType {
  if (data instanceof Float32Array) return "f32";
  return data instanceof Int32Array ? "i32" : "u32";
}

/** Bytes of one element. */
export const ELEMENT_BYTES = 4;
