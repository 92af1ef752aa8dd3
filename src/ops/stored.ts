import { type DType, isHalf } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";

/** What a kernel is specialised by that reads halves as they are stored. */
export interface StoredAs {
  /** The element of its array, in the place of vec4f or f32: words of two halves. */
  readonly stored: string;
  /** The WGSL of an element (or group of four), widened. */
  at(index: string): string;
}

/** For an array that is named `array` in the kernel, in groups of `width`; null where it is f32 and nothing changes. */
export function storedAs(array: string, dtype: DType, width: 1 | 4): StoredAs | null {
  if (!isHalf(dtype)) return null;
  const isBrain = dtype === "bf16"; // the upper half of an f32
  if (width === 1) {
    const word = (i: string): string => `${array}[(${i}) / 2u]`;
    return {
      stored: "u32",
      at: isBrain
        ? (i) => `bitcast<f32>((${word(i)} >> (16u * ((${i}) % 2u))) << 16u)`
        : (i) => `unpack2x16float(${word(i)})[(${i}) % 2u]`,
    };
  }
  const upper = (word: string): string => `${word} << 16u, ${word} & 0xffff0000u`;
  return {
    stored: "vec2u",
    at: isBrain
      ? (i) => `bitcast<vec4f>(vec4u(${upper(`${array}[${i}].x`)}, ${upper(`${array}[${i}].y`)}))`
      : (i) => `vec4f(unpack2x16float(${array}[${i}].x), unpack2x16float(${array}[${i}].y))`,
  };
}

/** What specialises the loads of products, of four floats at a time (lib/gemm_load_fours) or one by one, with b in a type. */
export function gemmLoads(
  typeOfB: DType,
  inFours: boolean,
): Required<Pick<KernelSpec, "uses" | "constants">> {
  const uses: Record<string, string> = inFours ? {} : { "lib/gemm_load_fours": "lib/gemm_load_ones" };
  const halves = storedAs("b", typeOfB, inFours ? 4 : 1);
  if (!halves) return { uses, constants: {} };
  const ones = ["i", "i + 1u", "i + 2u", "i + 3u"].map(halves.at).join(", ");
  return {
    uses,
    constants: { stored_b: halves.stored, load_b4: inFours ? halves.at("i") : `vec4f(${ones})` },
  };
}
