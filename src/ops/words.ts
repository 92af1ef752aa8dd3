import { type DType, type Gpu, type GpuArray, isFloating, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { fill } from "./kernels.ts";

/** How shaders/lib/order.wgsl tells types apart. */
export const KIND = { f32: 0, i32: 1, u32: 2, bool: 2, magnitude: 3 } as const;

/** The kind of an array that ops are handed: halves come as f32. */
export function kindOf({ dtype, shape }: GpuArray): number {
  if (dtype === "f16" || dtype === "bf16") throw new ShapeError(`${dtype} ${showShape(shape)} is no f32`);
  return KIND[dtype];
}

/** The 32 bits of a number as an element of `dtype` (f32 for halves). A number that the type does not hold throws. */
export function wordOf(op: string, dtype: DType, value: number): number {
  if (isFloating(dtype)) {
    float[0] = value;
    return word[0] as number;
  }
  const [low, high] = RANGES[dtype as "i32" | "u32" | "bool"];
  if (!Number.isInteger(value) || value < low || value > high)
    throw new ShapeError(`${op}: ${value} is no ${dtype}; cast the tensor with to("f32")`);
  return value >>> 0;
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);
const RANGES = { i32: [-(2 ** 31), 2 ** 31 - 1], u32: [0, 2 ** 32 - 1], bool: [0, 1] } as const;

/** An array of no dimensions that holds a number, filled on the device. */
export function scalar(gpu: Gpu, op: string, value: number, dtype: DType): GpuArray {
  const array = gpu.empty([], dtype);
  fill(gpu, array, wordOf(op, dtype, value));
  return array;
}

/** The type in which operands meet: their own where they agree, f32 for several floating ones. Others do not mix. */
export function commonType(op: string, types: readonly (DType | null)[]): DType {
  const [first = "f32", ...rest] = types.filter((type) => type !== null);
  let common = first;
  for (const type of rest) {
    if (type === common) continue;
    if (!isFloating(type) || !isFloating(common))
      throw new ShapeError(`${op}: ${first} and ${type} do not mix; cast one with to()`);
    common = "f32";
  }
  return common;
}
