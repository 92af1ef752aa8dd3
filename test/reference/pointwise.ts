import { erfc, erf as erfOf } from "./erf.ts";
import type { RefTensor } from "./tensor.ts";

/** `f` on every element. */
export function map(x: RefTensor, f: (value: number) => number): RefTensor {
  return { shape: x.shape, data: x.data.map(f) };
}

type Unary = (x: RefTensor) => RefTensor;

export const neg: Unary = (x) => map(x, (v) => -v);
export const abs: Unary = (x) => map(x, Math.abs);
export const exp: Unary = (x) => map(x, Math.exp);
export const log: Unary = (x) => map(x, Math.log);
export const sqrt: Unary = (x) => map(x, Math.sqrt);
export const rsqrt: Unary = (x) => map(x, (v) => 1 / Math.sqrt(v));
export const square: Unary = (x) => map(x, (v) => v * v);
export const recip: Unary = (x) => map(x, (v) => 1 / v);
export const tanh: Unary = (x) => map(x, Math.tanh);
export const sigmoid: Unary = (x) => map(x, sigmoidOf);
export const erf: Unary = (x) => map(x, erfOf);

export const exp2: Unary = (x) => map(x, (v) => 2 ** v);
export const expm1: Unary = (x) => map(x, Math.expm1);
export const log2: Unary = (x) => map(x, Math.log2);
export const log1p: Unary = (x) => map(x, Math.log1p);
export const sin: Unary = (x) => map(x, Math.sin);
export const cos: Unary = (x) => map(x, Math.cos);
export const floor: Unary = (x) => map(x, Math.floor);
export const ceil: Unary = (x) => map(x, Math.ceil);
export const trunc: Unary = (x) => map(x, Math.trunc);
export const sign: Unary = (x) => map(x, Math.sign);

/** To the nearest whole number; halves to the even one. */
export const round: Unary = (x) =>
  map(x, (v) => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v)));

/** x, and `slope` x below 0. */
export function leakyRelu(x: RefTensor, slope: number): RefTensor {
  return map(x, (v) => (v < 0 ? slope * v : v));
}

/** x, and `alpha` (exp(x) - 1) below 0. */
export function elu(x: RefTensor, alpha: number): RefTensor {
  return map(x, (v) => (v < 0 ? alpha * Math.expm1(v) : v));
}

/** max(x, 0); NaN stays NaN. */
export const relu: Unary = (x) => map(x, (v) => Math.max(v, 0));

/** x · sigmoid(x). */
export const silu: Unary = (x) => map(x, (v) => v * sigmoidOf(v));

/** log(1 + exp(x)). */
export const softplus: Unary = (x) => map(x, (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))));

/** x · Φ(x) = x/2 · (1 + erf(x/√2)): the exact one. */
export const gelu: Unary = (x) => map(x, (v) => 0.5 * v * erfc(-v * Math.SQRT1_2));

/** x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))): GPT-2's. */
export const geluTanh: Unary = (x) =>
  map(x, (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v * v * v))));

/** min(max(x, min), max). */
export function clamp(
  x: RefTensor,
  { min = -Infinity, max = Infinity }: { min?: number; max?: number },
): RefTensor {
  return map(x, (v) => Math.min(Math.max(v, min), max));
}

/** x to a constant power. */
export function pow(x: RefTensor, exponent: number): RefTensor {
  return map(x, (v) => v ** exponent);
}

function sigmoidOf(v: number): number {
  const e = Math.exp(-Math.abs(v));
  return v >= 0 ? 1 / (1 + e) : e / (1 + e);
}
