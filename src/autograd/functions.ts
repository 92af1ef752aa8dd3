import { type DType, knownOptions, type OptionNames, type Shape } from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { isRecording, tidy } from "./scope.ts";
import { apply, type MatmulOptions, type Tensor } from "./tensor.ts";
import type { Axes, ReduceOptions } from "./tensor-options.ts";

// The ops on tensors. What is saved for backward, and how it runs: the op of the same name in src/ops.

/** a + b, broadcast. */
export const add = (a: Tensor, b: Tensor | number): Tensor => a.add(b);
/** a - b, broadcast. */
export const sub = (a: Tensor, b: Tensor | number): Tensor => a.sub(b);
/** a b element by element, broadcast. */
export const mul = (a: Tensor, b: Tensor | number): Tensor => a.mul(b);
/** a / b, broadcast. */
export const div = (a: Tensor, b: Tensor | number): Tensor => a.div(b);
/** -x. */
export const neg = (x: Tensor): Tensor => x.neg();
/** x to the power of a number or of a tensor, broadcast. NaN where x < 0 and the exponent is no whole number. */
export const pow = (x: Tensor, exponent: Tensor | number): Tensor => x.pow(exponent);
/** |x|; its slope at 0 is 0. */
export const abs = (x: Tensor): Tensor => apply(ops.abs, [x], {});
/** -1, 0 or 1; its gradient is 0. */
export const sign = (x: Tensor): Tensor => apply(ops.sign, [x], {});
/** eˣ. */
export const exp = (x: Tensor): Tensor => apply(ops.exp, [x], {});
/** 2ˣ. */
export const exp2 = (x: Tensor): Tensor => apply(ops.exp2, [x], {});
/** eˣ - 1, exact near 0. */
export const expm1 = (x: Tensor): Tensor => apply(ops.expm1, [x], {});
/** The natural logarithm: -Infinity at 0, NaN below. */
export const log = (x: Tensor): Tensor => apply(ops.log, [x], {});
/** The logarithm to base 2. */
export const log2 = (x: Tensor): Tensor => apply(ops.log2, [x], {});
/** log(1 + x), exact near 0. */
export const log1p = (x: Tensor): Tensor => apply(ops.log1p, [x], {});
/** sin x, in radians. */
export const sin = (x: Tensor): Tensor => apply(ops.sin, [x], {});
/** cos x, in radians. */
export const cos = (x: Tensor): Tensor => apply(ops.cos, [x], {});
/** The whole number below; its gradient is 0. */
export const floor = (x: Tensor): Tensor => apply(ops.floor, [x], {});
/** The whole number above; its gradient is 0. */
export const ceil = (x: Tensor): Tensor => apply(ops.ceil, [x], {});
/** The nearest whole number, halves to the even one; its gradient is 0. */
export const round = (x: Tensor): Tensor => apply(ops.round, [x], {});
/** x without its fraction; its gradient is 0. */
export const trunc = (x: Tensor): Tensor => apply(ops.trunc, [x], {});
/** √x: NaN below 0, with an infinite slope at 0 (flatSqrt has none). */
export const sqrt = (x: Tensor): Tensor => apply(ops.sqrt, [x], {});
/** √x with a gradient of 0 at 0. */
export const flatSqrt = (x: Tensor): Tensor => apply(ops.flatSqrt, [x], {});
/** 1 / √x. */
export const rsqrt = (x: Tensor): Tensor => apply(ops.rsqrt, [x], {});
/** x². */
export const square = (x: Tensor): Tensor => apply(ops.square, [x], {});
/** 1 / x. */
export const reciprocal = (x: Tensor): Tensor => apply(ops.reciprocal, [x], {});
/** max(x, 0); its slope at 0 is 0. */
export const relu = (x: Tensor): Tensor => apply(ops.relu, [x], {});
/** x, and `slope` x below 0. */
export const leakyRelu = (x: Tensor, slope = 0.01): Tensor => apply(ops.leakyRelu, [x], { a: slope });
/** x, and `alpha` (exp(x) - 1) below 0. */
export const elu = (x: Tensor, alpha = 1): Tensor => apply(ops.elu, [x], { a: alpha });
/** x Φ(x) with the exact Φ, by erf: BERT and RoBERTa. */
export const gelu = (x: Tensor): Tensor => apply(ops.gelu, [x], {});
/** x Φ(x) with the tanh approximation of Φ: GPT-2. */
export const geluTanh = (x: Tensor): Tensor => apply(ops.geluTanh, [x], {});
/** x sigmoid(x). */
export const silu = (x: Tensor): Tensor => apply(ops.silu, [x], {});
/** tanh x. */
export const tanh = (x: Tensor): Tensor => apply(ops.tanh, [x], {});
/** 1 / (1 + e⁻ˣ). */
export const sigmoid = (x: Tensor): Tensor => apply(ops.sigmoid, [x], {});
/** log(1 + eˣ), without overflow. */
export const softplus = (x: Tensor): Tensor => apply(ops.softplus, [x], {});
/** 2/√π ∫₀ˣ exp(-t²) dt. */
export const erf = (x: Tensor): Tensor => apply(ops.erf, [x], {});
/** x, but no less than `min` and no more than `max`; beyond them the gradient is 0. */
export const clamp = (x: Tensor, min: number, max: number): Tensor =>
  apply(ops.clamp, [x], { a: min, b: max });

/** The same values in another element type. */
export const cast = (x: Tensor, dtype: DType): Tensor => x.to(dtype);

/**
 * a b over the last two dimensions, [..., M, K] x [..., K, N] -> [..., M, N], the others broadcast. Options transpose either, add a bias
 * [N] and apply an activation in the same kernel.
 */
export const matmul = (a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor => a.matmul(b, options);
/** x weightᵀ + bias: x [..., in], weight [out, in], of halves too, bias [out] -> [..., out]. `attrs.activation` runs in the same kernel. */
export const linear = (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  attrs: ops.LinearAttrs = {},
): Tensor => apply(ops.linear, [x, weight, bias], knownOptions("linear", attrs, LINEAR));
const LINEAR: OptionNames<ops.LinearAttrs> = { activation: true };

/**
 * A linear layer of M experts: rows of x [groups · n, in] in group g go through weight[route[g]] [out, in] and bias[route[g]].
 * weight [M, out, in], bias [M, out], route i32 [groups] -> [..., out]. Paper: section 3.
 */
export const bankLinear = (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  route: Tensor,
  attrs: ops.BankAttrs = {},
): Tensor => apply(ops.bankLinear, [x, weight, bias, route], knownOptions("bankLinear", attrs, BANK));
const BANK: OptionNames<ops.BankAttrs> = { scale: true };

/** eˣ / Σ eˣ over the last dimension. */
export const softmax = (x: Tensor): Tensor => apply(ops.softmax, [x], {});
/** x - log Σ eˣ over the last dimension. */
export const logSoftmax = (x: Tensor): Tensor => apply(ops.logSoftmax, [x], {});
/** (x - mean) / √(variance + eps) · weight + bias over the last dimension: x [..., C], weight [C], bias [C]. */
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-5): Tensor =>
  apply(ops.layerNorm, [x, weight, bias], { eps });
/** layerNorm(x + residual) in one kernel: x and residual [..., C], weight [C], bias [C]. */
export const addLayerNorm = (x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps = 1e-5): Tensor =>
  apply(ops.addLayerNorm, [x, residual, weight, bias], { eps });
/** Rows of a table: table [V, C], ids i32 [...] -> [..., C]. An id out of range gives NaN. */
export const embedding = (table: Tensor, ids: Tensor, attrs: ops.EmbeddingAttrs = {}): Tensor =>
  apply(ops.embedding, [table, ids], knownOptions("embedding", attrs, EMBEDDING));
const EMBEDDING: OptionNames<ops.EmbeddingAttrs> = { paddingIndex: true };

/** y[i, j, k] = x[i, indices[i, j, k], k] for axis 1. */
export const gather = (x: Tensor, axis: number, indices: Tensor): Tensor =>
  apply(ops.gather, [x, indices], { axis });
/** y[i, j, k] = x[i, indices[j], k] for axis 1. */
export const indexSelect = (x: Tensor, axis: number, indices: Tensor): Tensor =>
  apply(ops.indexSelect, [x, indices], { axis });
/** x with y[i, indices[i, j, k], k] += source[i, j, k] for axis 1. */
export const scatterAdd = (x: Tensor, axis: number, indices: Tensor, source: Tensor): Tensor =>
  apply(ops.scatterAdd, [x, indices, source], { axis });
/** f32 [..., classes]: 1 at each index, else 0; a row of NaN where an index is out of range. */
export const oneHot = (ids: Tensor, classes: number): Tensor => apply(ops.oneHot, [ids], { classes });
/** x / (1 - p), or 0 with probability p, by numbers of a draw: the same for the same draw and element. */
export const dropout = (x: Tensor, attrs: ops.DropoutAttrs): Tensor =>
  apply(ops.dropout, [x], knownOptions("dropout", attrs, DROPOUT));
const DROPOUT: OptionNames<ops.DropoutAttrs> = { p: true, draw: true };

export interface AttentionOptions extends ops.AttentionAttrs {
  /** Added to the scaled scores: [B, heads, T, S] or what broadcasts to it. */
  readonly bias?: Tensor | null | undefined;
}
const ATTENTION: OptionNames<AttentionOptions> = {
  heads: true,
  kvHeads: true,
  scale: true,
  causal: true,
  keyLength: true,
  dropout: true,
  weightBytes: true,
  bias: true,
};
/**
 * softmax(q kᵀ / √D + bias) v by heads: q [B, T, C], k and v [B, S, C] -> [B, T, C], D = C / heads; with `kvHeads` below
 * `heads`, groups of heads share keys and values. keep [B, S], i32 or bool: which keys are seen; null: all.
 */
export const attention = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  keep: Tensor | null,
  options: AttentionOptions,
): Tensor =>
  tidy(() => {
    const { bias = null, ...attrs } = knownOptions("attention", options, ATTENTION);
    const mask = keep?.dtype === "bool" ? keep.to("i32") : keep;
    return apply(ops.attention, [q, k, v, mask, bias], attrs);
  });
/**
 * Writes keys or values x [B, T, C] into rows from `position` on of cache [B, capacity, C], in place and so only in
 * noGrad(). Read them back with the `keyLength` of attention. A captured step writes where it did when it was recorded.
 */
export function cacheWrite(cache: Tensor, x: Tensor, position: number): void {
  if (isRecording())
    throw new GpuError("cacheWrite: it overwrites what backward might read; call it in noGrad()");
  if (cache.gpu !== x.gpu) throw new GpuError("cacheWrite: tensors of two devices");
  ops.writeCache(cache.gpu, cache.array, x.array, position);
}
/** x / √(mean x² + eps) · weight over the last dimension. */
export const rmsNorm = (x: Tensor, weight: Tensor, eps = 1e-6): Tensor =>
  apply(ops.rmsNorm, [x, weight], { eps });

/** Σ over some dimensions (all, when none are given). */
export const sum = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => x.sum(axes, options);
/** Mean over some dimensions: Σ / n. */
export const mean = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor => x.mean(axes, options);

/** The same elements in another shape; one size may be -1. */
export const reshape = (x: Tensor, shape: Shape): Tensor => apply(ops.reshape, [x], { shape });
/** Dimensions in another order: y.shape[i] = x.shape[order[i]]. A view. */
export const permute = (x: Tensor, order: readonly number[]): Tensor => apply(ops.permute, [x], { order });
/** Two dimensions exchanged. A view. */
export const transpose = (x: Tensor, a: number, b: number): Tensor => x.transpose(a, b);
/** Dimensions of size 1 repeated to `shape`. A view. */
export const expand = (x: Tensor, shape: Shape): Tensor => apply(ops.expand, [x], { shape });
/** Elements `start` to `end` - 1 along an axis, either counted from the end if negative. A view. */
export const slice = (x: Tensor, axis: number, start: number, end: number): Tensor =>
  apply(ops.slice, [x], { axis, start, end });
/** Tensors behind one another along an axis. */
export const concat = (tensors: readonly Tensor[], axis: number): Tensor =>
  apply(ops.concat, tensors, { axis });
/** x, or a copy of a view whose elements do not lie in order. */
export const contiguous = (x: Tensor): Tensor => x.contiguous();
