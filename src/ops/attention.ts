import { type Gpu, type GpuArray, sameShape, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { attendByProducts, gradientsByProducts, prefersProducts } from "./attention-products.ts";
import { defineOp } from "./define-op.ts";
import { type Draw, drawParams, dropThreshold } from "./draw.ts";
import { threads } from "./kernels.ts";

export interface AttentionAttrs {
  readonly heads: number;
  /** Factor of the scores. Default 1 / sqrt(head size). */
  readonly scale?: number | undefined;
  /** Query i sees keys up to i (the last query sees all). */
  readonly causal?: boolean | undefined;
  /** Dropout of the attention weights. */
  readonly dropout?: { readonly p: number; readonly draw: Draw } | undefined;
}

type AttentionInputs = readonly [q: GpuArray, k: GpuArray, v: GpuArray, keep: GpuArray | null];

interface AttentionSaved {
  readonly [name: string]: unknown;
  readonly q: GpuArray;
  readonly k: GpuArray;
  readonly v: GpuArray;
  readonly keep: GpuArray | null;
  readonly y: GpuArray | null;
  /** [B, H, T, 2]: the largest score of a query, and 1 / Σ exp(score - largest). Of the fused kernel. */
  readonly measure: GpuArray | null;
  /** Weights before and after dropout, where products were used. */
  readonly p: GpuArray | null;
  readonly used: GpuArray | null;
}

const variants = new Map<string, KernelSpec>();

/** The head size is a constant of the kernel (it sizes local arrays); lengths are parameters. */
function kernel(entry: string, headSize: number): KernelSpec {
  const key = `${entry}${headSize}`;
  let spec = variants.get(key);
  if (!spec) {
    const width = headSize % 4 === 0 ? 4 : 1;
    const uses: Record<string, string> = width === 1 ? { "lib/vec4": "lib/scalar" } : {};
    spec = { shader: "attention", entry, constants: { GROUPS: `${headSize / width}u` }, uses };
    variants.set(key, spec);
  }
  return spec;
}

function paramsOf(q: GpuArray, k: GpuArray, keep: GpuArray | null, attrs: AttentionAttrs) {
  const [batch, queries, channels] = q.shape as [number, number, number];
  const headSize = channels / attrs.heads;
  const p = attrs.dropout?.p ?? 0;
  return {
    batch,
    queries,
    keys: k.shape[1] as number,
    heads: attrs.heads,
    scale: attrs.scale ?? 1 / Math.sqrt(headSize),
    masked: keep ? 1 : 0,
    causal: attrs.causal ? 1 : 0,
    dropout: p > 0 ? 1 : 0,
    threshold: dropThreshold(p),
    keep_scale: 1 / (1 - p),
    ...drawParams(attrs.dropout?.draw ?? null),
  };
}

/**
 * Multi-head attention y_i = Σ_j softmax_j(scale q_i·k_j + mask) v_j. q [B, T, H·D], k, v [B, S, H·D],
 * keep [B, S] i32 (0: padding) or none -> [B, T, H·D]. Heads are slices of the channels.
 * On GPUs: fused, saves y and two numbers per query, and computes the weights again in backward. On software
 * adapters: by matrix products, saves the weights.
 */
export const attention = defineOp<AttentionInputs, AttentionAttrs, AttentionSaved>({
  name: "attention",
  autocast: true,
  dtypes: ["f32", "f32", "f32", "i32"],
  shape([q, k, v, keep], { heads, causal }) {
    const [batch, , channels] = q;
    if (q.length !== 3 || k.length !== 3 || !sameShape(k, v) || k[0] !== batch || k[2] !== channels) {
      throw new ShapeError(
        `attention: q ${showShape(q)}, k ${showShape(k)}, v ${showShape(v)}; expected [B, T, C], [B, S, C] twice`,
      );
    }
    if (!Number.isInteger(heads) || heads < 1 || (channels as number) % heads !== 0) {
      throw new ShapeError(`attention: ${channels} channels do not split into ${heads} heads`);
    }
    if (causal && (q[1] as number) > (k[1] as number)) {
      throw new ShapeError(
        `attention: ${q[1]} queries are more than the ${k[1]} keys; causal attention aligns their ends`,
      );
    }
    if (keep && !sameShape(keep, k.slice(0, 2))) {
      throw new ShapeError(`attention: mask ${showShape(keep)}, expected ${showShape(k.slice(0, 2))}`);
    }
    return q;
  },
  forward(gpu, [q, k, v, keep], attrs) {
    const [batch, queries, channels] = q.shape as [number, number, number];
    const params = paramsOf(q, k, keep, attrs);
    if (prefersProducts(gpu, params)) {
      const clock = attrs.dropout?.draw.clock ?? null;
      const { y, weights } = attendByProducts(gpu, { q, k, v, keep, clock }, params);
      return { output: y, saved: { q, k, v, keep, y: null, measure: null, ...weights } };
    }
    const y = gpu.like(q);
    const measure = gpu.empty([batch, attrs.heads, queries, 2]);
    const arrays = { q, k, v, keep, clock: attrs.dropout?.draw.clock ?? null, y, measure };
    const fused = kernel("forward", channels / attrs.heads);
    gpu.run(fused, arrays, { ...params, dv_start: 0 }, threads(measure.size / 2));
    return { output: y, saved: { q, k, v, keep, y, measure, p: null, used: null } };
  },
  backward(gpu, dy, saved, attrs, needs) {
    const { q, k, v, keep, y, measure, p, used } = saved;
    if (p && used) {
      const inputs = { q, k, v, keep, clock: attrs.dropout?.draw.clock ?? null };
      return [...gradientsByProducts(gpu, dy, inputs, { p, used }, paramsOf(q, k, keep, attrs), needs), null];
    }
    if (!y || !measure) return [null, null, null, null];
    return [...fusedGradients(gpu, dy, { q, k, v, keep, y, measure }, attrs, needs), null];
  },
});

interface FusedSaved {
  readonly q: GpuArray;
  readonly k: GpuArray;
  readonly v: GpuArray;
  readonly keep: GpuArray | null;
  readonly y: GpuArray;
  readonly measure: GpuArray;
}

function fusedGradients(
  gpu: Gpu,
  dy: GpuArray,
  { q, k, v, keep, y, measure }: FusedSaved,
  attrs: AttentionAttrs,
  [needsQ, needsK, needsV]: readonly boolean[],
): (GpuArray | null)[] {
  const headSize = (q.shape[2] as number) / attrs.heads;
  const size = k.size;
  // dv starts where a kernel can bind it.
  const start = Math.ceil(size / 64) * 64;
  const params = { ...paramsOf(q, k, keep, attrs), dv_start: start / (headSize % 4 === 0 ? 4 : 1) };
  const rows = measure.size / 2;
  const sums = gpu.empty([rows, 4]);
  gpu.run(
    kernel("backward_sums", headSize),
    { measure_saved: measure, dy, y_saved: y, sums },
    params,
    threads(rows),
  );
  const common = { q, k, v, keep, clock: attrs.dropout?.draw.clock ?? null, sums_saved: sums, dy };
  let dq: GpuArray | null = null;
  if (needsQ) {
    dq = gpu.like(q);
    gpu.run(kernel("backward_q", headSize), { ...common, dq }, params, threads(rows));
  }
  if (!needsK && !needsV) return [dq, null, null];
  const dkv = gpu.empty([start + size]);
  const keys = (k.shape[0] as number) * attrs.heads * (k.shape[1] as number);
  gpu.run(kernel("backward_kv", headSize), { ...common, dkv }, params, threads(keys));
  return [dq, needsK ? gpu.view(dkv, k.shape) : null, needsV ? gpu.view(dkv, v.shape, start) : null];
}
