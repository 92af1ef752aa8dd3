import type { GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { defineOp, type Op } from "./define-op.ts";
import { runFlat } from "./ranges.ts";

/** Numbers of an op, `params.a` and `params.b` in its expressions. */
export interface UnaryAttrs {
  readonly a?: number;
  readonly b?: number;
}

export type UnaryOp = Op<readonly [GpuArray], UnaryAttrs, { readonly kept: GpuArray | null }>;

/** WGSL of y in terms of x (NaN stays NaN whatever it says), and of dy/dx in terms of what is saved: v is x or y. T is vec4f. */
interface Row {
  readonly value: string;
  readonly slope: string;
  /** null: the slope is a constant of the attributes. */
  readonly saves: "x" | "y" | null;
}

function unary(name: string, row: Row): UnaryOp {
  const forward: KernelSpec = { shader: "unary", entry: "forward", constants: { value: row.value } };
  const backward: KernelSpec = { shader: "unary", entry: "backward", constants: { slope: row.slope } };
  return defineOp<readonly [GpuArray], UnaryAttrs, { readonly kept: GpuArray | null }>({
    name,
    shape: ([x]) => x,
    forward(gpu, [x], { a = 0, b = 0 }, needs) {
      const y = gpu.like(x);
      runFlat(gpu, forward, { x, y }, { a, b }, undefined, 4);
      return { output: y, saved: { kept: needs.any && row.saves ? (row.saves === "x" ? x : y) : null } };
    },
    backward(gpu, dy, { kept }, { a = 0, b = 0 }) {
      const dx = gpu.like(dy);
      runFlat(gpu, backward, { x: kept ?? dy, dy, dx }, { a, b }, undefined, 4);
      return [dx];
    },
  });
}

export const neg = unary("neg", { value: "-x", slope: "T(-1.0)", saves: null });
export const abs = unary("abs", { value: "abs(x)", slope: "sign(v)", saves: "x" });
export const exp = unary("exp", { value: "exp(x)", slope: "v", saves: "y" });
export const expm1 = unary("expm1", { value: "expm1_of(x)", slope: "v + 1.0", saves: "y" });
export const exp2 = unary("exp2", { value: "exp2(x)", slope: "0.69314718 * v", saves: "y" });
/** -Infinity at 0, NaN below. */
export const log = unary("log", { value: "log_of(x)", slope: "1.0 / v", saves: "x" });
export const log2 = unary("log2", { value: "log2_of(x)", slope: "1.44269504 / v", saves: "x" });
export const log1p = unary("log1p", { value: "log1p_of(x)", slope: "1.0 / (1.0 + v)", saves: "x" });
export const sqrt = unary("sqrt", { value: "sqrt(x)", slope: "0.5 / v", saves: "y" });
export const rsqrt = unary("rsqrt", { value: "1.0 / sqrt(x)", slope: "-0.5 * v * v * v", saves: "y" });
export const square = unary("square", { value: "x * x", slope: "2.0 * v", saves: "x" });
export const reciprocal = unary("reciprocal", { value: "1.0 / x", slope: "-v * v", saves: "y" });
export const relu = unary("relu", {
  value: "max(x, T(0.0))",
  slope: "select(T(0.0), T(1.0), v > T(0.0))",
  saves: "y",
});
/** x, and a x below 0. */
export const leakyRelu = unary("leakyRelu", {
  value: "select(params.a * x, x, x > T(0.0))",
  slope: "select(T(params.a), T(1.0), v > T(0.0))",
  saves: "x",
});
/** x, and a (exp(x) - 1) below 0. */
export const elu = unary("elu", {
  value: "select(params.a * expm1_of(x), x, x > T(0.0))",
  slope: "select(params.a * exp(v), T(1.0), v > T(0.0))",
  saves: "x",
});
/** sin and cos of radians, to 2 ULP for arguments of any size. */
export const sin = unary("sin", { value: "sine(x, 0u)", slope: "sine(v, 1u)", saves: "x" });
export const cos = unary("cos", { value: "sine(x, 1u)", slope: "-sine(v, 0u)", saves: "x" });
/** To whole numbers, which are still floats: down, up, to the nearest (halves to the even one), toward 0. */
export const floor = unary("floor", { value: "floor(x)", slope: "T(0.0)", saves: null });
export const ceil = unary("ceil", { value: "ceil(x)", slope: "T(0.0)", saves: null });
export const round = unary("round", { value: "round(x)", slope: "T(0.0)", saves: null });
export const trunc = unary("trunc", { value: "trunc(x)", slope: "T(0.0)", saves: null });
/** -1, 0 or 1. */
export const sign = unary("sign", { value: "sign(x)", slope: "T(0.0)", saves: null });
/**
 * x^a for a number a: by products where that is a whole number up to 64, else as 2^(a log2 |x|). Of a negative x NaN
 * where a has a fraction.
 */
export const powNumber = unary("powNumber", {
  value: "power_number(x, params.a)",
  slope: "select(params.a * power_number(v, params.a - 1.0), T(0.0), params.a == 0.0)",
  saves: "x",
});
/** sqrt(x) with a gradient of 0 at 0, where that of sqrt is infinite: for norms and deviations. */
export const flatSqrt = unary("flatSqrt", {
  value: "sqrt(x)",
  slope: "select(0.5 / v, T(0.0), v == T(0.0))",
  saves: "y",
});
/** Exact GELU, x Φ(x): BERT and RoBERTa. */
export const gelu = unary("gelu", { value: "gelu(x)", slope: "gelu_slope(v)", saves: "x" });
/** GELU by tanh, up to 4.7e-4 from the exact one: GPT-2. */
export const geluTanh = unary("geluTanh", { value: "gelu_tanh(x)", slope: "gelu_tanh_slope(v)", saves: "x" });
export const silu = unary("silu", {
  value: "x * sigmoid(x)",
  slope: "sigmoid(v) * (1.0 + v * (1.0 - sigmoid(v)))",
  saves: "x",
});
export const tanh = unary("tanh", { value: "tanh_safe(x)", slope: "1.0 - v * v", saves: "y" });
export const sigmoid = unary("sigmoid", { value: "sigmoid(x)", slope: "v * (1.0 - v)", saves: "y" });
export const softplus = unary("softplus", { value: "softplus(x)", slope: "sigmoid(v)", saves: "x" });
export const erf = unary("erf", { value: "erf(x)", slope: "1.1283791 * exp(-v * v)", saves: "x" });
/** Between a and b (b where a is above it); the gradient passes strictly inside and on the bounds. */
export const clamp = unary("clamp", {
  value: "min(max(x, T(params.a)), T(params.b))",
  slope: "select(T(0.0), T(1.0), (v >= T(params.a)) & (v <= T(params.b)))",
  saves: "x",
});
/** a x. */
export const scale = unary("scale", { value: "params.a * x", slope: "T(params.a)", saves: null });
/** x + a. */
export const shift = unary("shift", { value: "x + params.a", slope: "T(1.0)", saves: null });
