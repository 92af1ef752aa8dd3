import type { GpuArray } from "../array/index.ts";
import { attendFused, fusedGradients, hasFewQueries } from "./attention-fused.ts";
import {
  type AttentionAttrs,
  type AttentionInputs,
  checkAttention,
  paramsOf,
  sizesOf,
} from "./attention-problem.ts";
import { attendByProducts, gradientsByProducts } from "./attention-products.ts";
import { defineOp } from "./define-op.ts";

export type { AttentionAttrs } from "./attention-problem.ts";

interface AttentionSaved {
  readonly [name: string]: unknown;
  readonly q: GpuArray;
  readonly k: GpuArray;
  readonly v: GpuArray;
  readonly keep: GpuArray | null;
  readonly bias: GpuArray | null;
  /** Of the dropout, drawn again in backward. */
  readonly clock: GpuArray | null;
  /** Of the fused kernels: the output, and [B, H, T, 2] the largest score of a query and 1 / Σ exp(score - largest). */
  readonly y: GpuArray | null;
  readonly measure: GpuArray | null;
  /** Weights before and after dropout, where products were used and they are small. */
  readonly p: GpuArray | null;
  readonly used: GpuArray | null;
}

const NOTHING = { y: null, measure: null, p: null, used: null } as const;

/**
 * Multi-head attention y_i = Σ_j p_ij v_j, p_i = softmax_j(scale q_i·k_j + bias_ij). q [B, T, H·D], k, v [B, S, kvHeads·D],
 * keep [B, S] i32 (0: padding) or none, bias [B, H, T, S] or what broadcasts to it, or none -> [B, T, H·D]. Heads are
 * slices of the channels. A key that is padding has the score -1e9, so a query with every key masked attends uniformly
 * to the keys that causality lets it see. k and v may be caches: `keyLength` rows of them are read.
 * On GPUs: fused, in tiles; saves y and two numbers per query and head, and computes the weights again in backward. On software
 * adapters: matrix products around a softmax, which saves the weights up to `weightBytes`, and beyond that makes them in
 * blocks, and again in backward. A single query without gradients is one dispatch on both.
 */
export const attention = defineOp<AttentionInputs, AttentionAttrs, AttentionSaved>({
  name: "attention",
  autocast: true,
  dtypes: ["f32", "f32", "f32", "i32", "f32"],
  shape: checkAttention,
  forward(gpu, [q, k, v, keep, bias = null], attrs, needs) {
    const sizes = sizesOf(q.shape, k.shape, attrs);
    const params = paramsOf(sizes, keep, bias, attrs);
    const arrays = { q, k, v, keep, bias, clock: attrs.dropout?.draw.clock ?? null };
    if (gpu.isSoftware && (needs.any || !hasFewQueries(gpu, sizes))) {
      const { y, weights } = attendByProducts(gpu, arrays, sizes, params, attrs.weightBytes);
      return { output: y, saved: { ...arrays, ...NOTHING, ...weights } };
    }
    const { y, measure } = attendFused(gpu, arrays, sizes, params);
    return { output: y, saved: { ...arrays, ...NOTHING, y, measure } };
  },
  backward(gpu, dy, saved, attrs, needs) {
    const { q, k, v, keep, bias, clock, y, measure, p, used } = saved;
    const sizes = sizesOf(q.shape, k.shape, attrs);
    const params = paramsOf(sizes, keep, bias, attrs);
    const arrays = { q, k, v, keep, bias, clock };
    if (y && measure) return fusedGradients(gpu, dy, arrays, { y, measure }, sizes, params, needs);
    const weights = p && used ? { p, used } : null;
    return gradientsByProducts(gpu, dy, arrays, weights, sizes, params, needs, attrs.weightBytes);
  },
});
