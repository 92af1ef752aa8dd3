import type { DType, Shape } from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { isRecording, tidy } from "./scope.ts";
import { type Axes, apply, type MatmulOptions, type Tensor } from "./tensor.ts";

/** The ops on tensors. Shapes, formulas and what is saved: the op of the same name in src/ops. */

export const add = (a: Tensor, b: Tensor | number): Tensor => a.add(b);
export const sub = (a: Tensor, b: Tensor | number): Tensor => a.sub(b);
export const mul = (a: Tensor, b: Tensor | number): Tensor => a.mul(b);
export const div = (a: Tensor, b: Tensor | number): Tensor => a.div(b);
export const neg = (x: Tensor): Tensor => x.neg();
export const pow = (x: Tensor, exponent: Tensor | number): Tensor => x.pow(exponent);
export const abs = (x: Tensor): Tensor => apply(ops.abs, [x], {});
export const sign = (x: Tensor): Tensor => apply(ops.sign, [x], {});
export const exp = (x: Tensor): Tensor => apply(ops.exp, [x], {});
export const exp2 = (x: Tensor): Tensor => apply(ops.exp2, [x], {});
export const expm1 = (x: Tensor): Tensor => apply(ops.expm1, [x], {});
export const log = (x: Tensor): Tensor => apply(ops.log, [x], {});
export const log2 = (x: Tensor): Tensor => apply(ops.log2, [x], {});
export const log1p = (x: Tensor): Tensor => apply(ops.log1p, [x], {});
export const sin = (x: Tensor): Tensor => apply(ops.sin, [x], {});
export const cos = (x: Tensor): Tensor => apply(ops.cos, [x], {});
export const floor = (x: Tensor): Tensor => apply(ops.floor, [x], {});
export const ceil = (x: Tensor): Tensor => apply(ops.ceil, [x], {});
export const round = (x: Tensor): Tensor => apply(ops.round, [x], {});
export const trunc = (x: Tensor): Tensor => apply(ops.trunc, [x], {});
export const sqrt = (x: Tensor): Tensor => apply(ops.sqrt, [x], {});
/** √x with a gradient of 0 at 0. */
export const flatSqrt = (x: Tensor): Tensor => apply(ops.flatSqrt, [x], {});
export const rsqrt = (x: Tensor): Tensor => apply(ops.rsqrt, [x], {});
export const square = (x: Tensor): Tensor => apply(ops.square, [x], {});
export const reciprocal = (x: Tensor): Tensor => apply(ops.reciprocal, [x], {});
export const relu = (x: Tensor): Tensor => apply(ops.relu, [x], {});
/** x, and `slope` x below 0. */
export const leakyRelu = (x: Tensor, slope = 0.01): Tensor => apply(ops.leakyRelu, [x], { a: slope });
/** x, and `alpha` (exp(x) - 1) below 0. */
export const elu = (x: Tensor, alpha = 1): Tensor => apply(ops.elu, [x], { a: alpha });
export const gelu = (x: Tensor): Tensor => apply(ops.gelu, [x], {});
export const geluTanh = (x: Tensor): Tensor => apply(ops.geluTanh, [x], {});
export const silu = (x: Tensor): Tensor => apply(ops.silu, [x], {});
export const tanh = (x: Tensor): Tensor => apply(ops.tanh, [x], {});
export const sigmoid = (x: Tensor): Tensor => apply(ops.sigmoid, [x], {});
export const softplus = (x: Tensor): Tensor => apply(ops.softplus, [x], {});
export const erf = (x: Tensor): Tensor => apply(ops.erf, [x], {});
export const clamp = (x: Tensor, min: number, max: number): Tensor =>
  apply(ops.clamp, [x], { a: min, b: max });

/** The same values in another element type. */
export const cast = (x: Tensor, dtype: DType): Tensor => x.to(dtype);

export const matmul = (a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor => a.matmul(b, options);
export const linear = (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  attrs: ops.LinearAttrs = {},
): Tensor => apply(ops.linear, [x, weight, bias], attrs);
export const bankLinear = (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  route: Tensor,
  attrs: ops.BankAttrs = {},
): Tensor => apply(ops.bankLinear, [x, weight, bias, route], attrs);
export const softmax = (x: Tensor): Tensor => apply(ops.softmax, [x], {});
export const logSoftmax = (x: Tensor): Tensor => apply(ops.logSoftmax, [x], {});
export const layerNorm = (x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-5): Tensor =>
  apply(ops.layerNorm, [x, weight, bias], { eps });
export const embedding = (table: Tensor, ids: Tensor, attrs: ops.EmbeddingAttrs = {}): Tensor =>
  apply(ops.embedding, [table, ids], attrs);
/** y[i, j, k] = x[i, indices[i, j, k], k] for axis 1. */
export const gather = (x: Tensor, axis: number, indices: Tensor): Tensor =>
  apply(ops.gather, [x, indices], { axis });
/** y[i, j, k] = x[i, indices[j], k] for axis 1. */
export const indexSelect = (x: Tensor, axis: number, indices: Tensor): Tensor =>
  apply(ops.indexSelect, [x, indices], { axis });
/** x with y[i, indices[i, j, k], k] += source[i, j, k] for axis 1. */
export const scatterAdd = (x: Tensor, axis: number, indices: Tensor, source: Tensor): Tensor =>
  apply(ops.scatterAdd, [x, indices, source], { axis });
/** f32 [..., classes]: 1 at each index, else 0. */
export const oneHot = (ids: Tensor, classes: number): Tensor => apply(ops.oneHot, [ids], { classes });
export const dropout = (x: Tensor, attrs: ops.DropoutAttrs): Tensor => apply(ops.dropout, [x], attrs);
export interface AttentionOptions extends ops.AttentionAttrs {
  /** Added to the scaled scores: [B, heads, T, S] or what broadcasts to it. */
  readonly bias?: Tensor | null | undefined;
}
/** keep [B, S], i32 or bool: which keys are seen. */
export const attention = (
  q: Tensor,
  k: Tensor,
  v: Tensor,
  keep: Tensor | null,
  { bias = null, ...attrs }: AttentionOptions,
): Tensor =>
  tidy(() => {
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
export const sum = (x: Tensor, axes?: Axes, options: { keepDim?: boolean } = {}): Tensor =>
  x.sum(axes, options);
/** Mean over some dimensions: Σ / n. */
export const mean = (x: Tensor, axes?: Axes, options: { keepDim?: boolean } = {}): Tensor =>
  x.mean(axes, options);

export const reshape = (x: Tensor, shape: Shape): Tensor => apply(ops.reshape, [x], { shape });
export const permute = (x: Tensor, order: readonly number[]): Tensor => apply(ops.permute, [x], { order });
export const transpose = (x: Tensor, a: number, b: number): Tensor => x.transpose(a, b);
export const expand = (x: Tensor, shape: Shape): Tensor => apply(ops.expand, [x], { shape });
export const slice = (x: Tensor, axis: number, start: number, end: number): Tensor =>
  apply(ops.slice, [x], { axis, start, end });
export const concat = (tensors: readonly Tensor[], axis: number): Tensor =>
  apply(ops.concat, tensors, { axis });
export const contiguous = (x: Tensor): Tensor => x.contiguous();
