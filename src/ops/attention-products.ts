import type { Gpu, GpuArray } from "../array/index.ts";
import { grid1d } from "../gpu/index.ts";
import { gemm, type Layout } from "./gemm.ts";
import { rowKernel } from "./kernels.ts";

/**
 * Attention of software adapters: matrix products around a softmax, with the [T, S] weights kept. There these
 * kernels are many times as fast as the fused one, whose threads each load every key.
 */

const forwardKernel = rowKernel("attention_weights", "forward");
const dropKernel = rowKernel("attention_weights", "drop");
const backwardKernel = rowKernel("attention_weights", "backward");

/** Weights beyond this many bytes are not kept: the fused kernel computes them again. */
const MOST_WEIGHT_BYTES = 64 * 2 ** 20;

export type AttentionParams = Readonly<
  Record<"batch" | "queries" | "keys" | "heads" | "scale" | "dropout", number> & Record<string, number>
>;

export interface AttentionTensors {
  readonly q: GpuArray;
  readonly k: GpuArray;
  readonly v: GpuArray;
  readonly keep: GpuArray | null;
  readonly clock: GpuArray | null;
}

/** Softmax weights [B, H, T, S], and the same after dropout (the same array without it). */
export interface AttentionWeights {
  readonly p: GpuArray;
  readonly used: GpuArray;
}

/** Whether products are the better way here. */
export function prefersProducts(gpu: Gpu, { batch, queries, keys, heads }: AttentionParams): boolean {
  return gpu.isSoftware && batch * heads * queries * keys * 4 <= MOST_WEIGHT_BYTES && batch * heads <= 65_535;
}

export function attendByProducts(
  gpu: Gpu,
  { q, k, v, keep, clock }: AttentionTensors,
  params: AttentionParams,
): { readonly y: GpuArray; readonly weights: AttentionWeights } {
  const { batch, ...row } = params;
  const { queries: T, keys: S, heads, scale } = row;
  const { D, rows, ofQueries, ofKeys, ofWeights } = layouts(q, params);
  const p = gpu.empty([batch, heads, T, S]);
  const products = { batch: batch * heads, inner: heads };
  const scores = { M: T, N: S, K: D, scale, layoutA: ofQueries, layoutB: ofKeys, layoutC: ofWeights };
  gemm(gpu, { a: q, b: k, c: p, transposeB: true, ...scores, ...products });
  gpu.run(forwardKernel(gpu, 1).kernel, { x: p, keep }, { rows, ...row }, grid1d(rows));
  let used = p;
  if (params.dropout === 1) {
    used = gpu.like(p);
    gpu.run(dropKernel(gpu, 1).kernel, { p, clock, used }, { rows, ...row }, grid1d(rows));
  }
  const y = gpu.like(q);
  const sums = { M: T, N: D, K: S, layoutA: ofWeights, layoutB: ofKeys, layoutC: ofQueries };
  gemm(gpu, { a: used, b: v, c: y, ...sums, ...products });
  return { y, weights: { p, used } };
}

/** dv = usedᵀ dy; ds = scale p (g - Σ g p), g from dy vᵀ; dq = ds k, dk = dsᵀ q. */
export function gradientsByProducts(
  gpu: Gpu,
  dy: GpuArray,
  { q, k, v, keep, clock }: AttentionTensors,
  { p, used }: AttentionWeights,
  params: AttentionParams,
  [needsQ, needsK, needsV]: readonly boolean[],
): (GpuArray | null)[] {
  const { batch, ...row } = params;
  const { queries: T, keys: S, heads } = row;
  const { D, rows, ofQueries, ofKeys, ofWeights } = layouts(q, params);
  const products = { batch: batch * heads, inner: heads };
  const toKeys = {
    M: S,
    N: D,
    K: T,
    transposeA: true,
    layoutA: ofWeights,
    layoutB: ofQueries,
    layoutC: ofKeys,
  };
  const dv = needsV ? gpu.like(v) : null;
  if (dv) gemm(gpu, { a: used, b: dy, c: dv, ...toKeys, ...products });
  if (!needsQ && !needsK) return [null, null, dv];
  const dused = gpu.like(p);
  const scores = { M: T, N: S, K: D, layoutA: ofQueries, layoutB: ofKeys, layoutC: ofWeights };
  gemm(gpu, { a: dy, b: v, c: dused, transposeB: true, ...scores, ...products });
  const dx = gpu.like(p);
  gpu.run(backwardKernel(gpu, 1).kernel, { p, dused, keep, clock, dx }, { rows, ...row }, grid1d(rows));
  const dq = needsQ ? gpu.like(q) : null;
  const toQueries = { M: T, N: D, K: S, layoutA: ofWeights, layoutB: ofKeys, layoutC: ofQueries };
  if (dq) gemm(gpu, { a: dx, b: k, c: dq, ...toQueries, ...products });
  const dk = needsK ? gpu.like(k) : null;
  if (dk) gemm(gpu, { a: dx, b: q, c: dk, ...toKeys, ...products });
  return [dq, dk, dv];
}

/** Heads are slices of the channels: rows are C apart, heads D apart. */
function layouts(
  q: GpuArray,
  { batch, queries: T, keys: S, heads }: AttentionParams,
): { D: number; rows: number; ofQueries: Layout; ofKeys: Layout; ofWeights: Layout } {
  const C = q.shape[2] as number;
  const D = C / heads;
  return {
    D,
    rows: batch * heads * T,
    ofQueries: { row: C, stride: T * C, inner: D },
    ofKeys: { row: C, stride: S * C, inner: D },
    ofWeights: { row: S, stride: heads * T * S, inner: T * S },
  };
}
