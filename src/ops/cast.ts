import { checkDType, type DType, type Gpu, type GpuArray, isFloating, isHalf } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { contiguous } from "./kernels.ts";
import { runRows, threads } from "./ranges.ts";

export interface CastAttrs {
  readonly to: DType;
}

/** WGSL of a value of one 32-bit type as another, from the word `v`. Floats lose their fraction; bools are v != 0. */
const VALUES: Readonly<
  Record<"f32" | "i32" | "u32", Readonly<Record<"f32" | "i32" | "u32" | "bool", string>>>
> = {
  f32: {
    f32: "v",
    i32: "bitcast<u32>(i32(bitcast<f32>(v)))",
    u32: "u32(bitcast<f32>(v))",
    bool: "select(0u, 1u, (v & 0x7fffffffu) != 0u)",
  },
  i32: { f32: "bitcast<u32>(f32(bitcast<i32>(v)))", i32: "v", u32: "v", bool: "select(0u, 1u, v != 0u)" },
  u32: { f32: "bitcast<u32>(f32(v))", i32: "v", u32: "v", bool: "select(0u, 1u, v != 0u)" },
};

const kernels = new Map<string, KernelSpec>();

function kernel(entry: "widen" | "narrow" | "convert", key: string): KernelSpec {
  let spec = kernels.get(`${entry} ${key}`);
  if (!spec) {
    if (entry === "convert") spec = { shader: "cast", entry, constants: { value: key } };
    else spec = { shader: "cast", entry, uses: key === "bf16" ? { "lib/halves": "lib/brain" } : {} };
    kernels.set(`${entry} ${key}`, spec);
  }
  return spec;
}

/** The array as `to`: itself where it is that already. Halves become f32 exactly; f32 is rounded to nearest even. */
export function castArray(gpu: Gpu, array: GpuArray, to: DType): GpuArray {
  if (array.dtype === to) return array;
  if (isHalf(array.dtype)) return castArray(gpu, widen(gpu, array), to);
  if (isHalf(to)) return narrow(gpu, castArray(gpu, array, "f32"), to);
  const from = array.dtype === "bool" ? "u32" : array.dtype;
  const y = gpu.empty(array.shape, to);
  // i32 to u32 and bool to either keep their words.
  const value = VALUES[from as "f32" | "i32" | "u32"][to as "f32" | "i32" | "u32" | "bool"];
  const split = { x: contiguous(gpu, array), y };
  runRows(gpu, kernel("convert", value), { rows: array.size, split, params: {}, count: "n", grid: threads });
  return y;
}

function widen(gpu: Gpu, array: GpuArray): GpuArray {
  const wide = gpu.empty(array.shape);
  runWords(gpu, kernel("widen", array.dtype), { halves: contiguous(gpu, array), wide });
  return wide;
}

function narrow(gpu: Gpu, array: GpuArray, to: DType): GpuArray {
  const rounded = gpu.empty(array.shape, to);
  runWords(gpu, kernel("narrow", to), { wide_saved: contiguous(gpu, array), rounded });
  return rounded;
}

/** A thread for each word of the halves; ranges of several chunks begin at multiples of 64 elements. */
function runWords(gpu: Gpu, spec: KernelSpec, split: Readonly<Record<string, GpuArray>>): void {
  const rows = Object.values(split)[0]?.size ?? 0;
  runRows(gpu, spec, { rows, split, params: {}, count: "n", grid: (n) => threads(Math.ceil(n / 2)) });
}

/**
 * The same values in another element type. f32 to f16 and bf16: to nearest even (f16: infinite from 65520 on); to
 * integers: toward 0; to bool: whether it is not 0. The gradient passes between floating types, in the type of x.
 * Saves nothing.
 */
export const cast = defineOp<readonly [GpuArray], CastAttrs, { readonly from: DType }>({
  name: "cast",
  dtypes: "any",
  half: { inputs: [0] },
  keepsSlices: true,
  result: (_types, { to }) => to,
  shape([x], { to }) {
    checkDType("to", to);
    return x;
  },
  forward(gpu, [x], { to }) {
    const y = castArray(gpu, x, to);
    return { output: y === x ? gpu.view(x, x.shape) : y, saved: { from: x.dtype } };
  },
  backward: (gpu, dy, { from }) => [isFloating(from) ? castArray(gpu, dy, from) : null],
});
