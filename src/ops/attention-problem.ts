import { type GpuArray, type Shape, sameShape, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type Draw, drawParams, dropThreshold } from "./draw.ts";

export interface AttentionAttrs {
  readonly heads: number;
  /** Heads of keys and values, which divide the heads of queries: neighbours share one. Default: as many as heads. */
  readonly kvHeads?: number | undefined;
  /** Factor of the scores. Default 1 / sqrt(head size). */
  readonly scale?: number | undefined;
  /** Query i sees keys up to i (the last query sees all). */
  readonly causal?: boolean | undefined;
  /** Only the first so many rows of k and v are keys: the rest of a cache. Default: all. */
  readonly keyLength?: number | undefined;
  /** Dropout of the attention weights. */
  readonly dropout?: { readonly p: number; readonly draw: Draw } | undefined;
  /**
   * Software adapters: weights [B, H, T, S] of more bytes than this are not kept but made in blocks, and again in
   * backward. Default 64 MiB.
   */
  readonly weightBytes?: number | undefined;
}

export type AttentionInputs = readonly [
  q: GpuArray,
  k: GpuArray,
  v: GpuArray,
  keep: GpuArray | null,
  bias: GpuArray | null,
];

type AttentionShapes = readonly [
  q: Shape,
  k: Shape,
  v: Shape,
  keep: Shape | null | undefined,
  bias: Shape | null | undefined,
];

/** Sizes of one attention: B entries, T queries of H heads of D channels, S of `capacity` keys of H / share heads. */
export interface AttentionSizes {
  readonly batch: number;
  readonly queries: number;
  readonly heads: number;
  readonly headSize: number;
  readonly keys: number;
  readonly capacity: number;
  readonly share: number;
}

/** The parameters of shaders/lib/attention.wgsl that do not depend on the block. */
export type AttentionParams = Readonly<Record<string, number>>;

/** Sizes of inputs that passed `checkAttention`. */
export function sizesOf(q: Shape, k: Shape, attrs: AttentionAttrs): AttentionSizes {
  const [batch, queries, channels] = q as [number, number, number];
  const { heads, kvHeads = heads } = attrs;
  const capacity = k[1] as number;
  const keys = attrs.keyLength ?? capacity;
  return { batch, queries, heads, headSize: channels / heads, keys, capacity, share: heads / kvHeads };
}

/** Checks shapes and attributes; the output has the shape of q. */
export function checkAttention([q, k, v, keep, bias]: AttentionShapes, attrs: AttentionAttrs): Shape {
  checkOperands(q, k, v, attrs);
  const sizes = sizesOf(q, k, attrs);
  const { batch, queries, heads, keys, capacity } = sizes;
  if (!Number.isInteger(keys) || keys < 1 || keys > capacity) {
    throw new ShapeError(`attention: ${keys} keys of the ${capacity} rows of k ${showShape(k)}`);
  }
  if (attrs.causal && queries > keys) {
    throw new ShapeError(
      `attention: ${queries} queries are more than the ${keys} keys; causal attention aligns their ends`,
    );
  }
  if (keep && !sameShape(keep, [batch, keys]) && !sameShape(keep, [batch, capacity])) {
    throw new ShapeError(`attention: mask ${showShape(keep)}, expected ${showShape([batch, keys])}`);
  }
  const scores = [batch, heads, queries, keys];
  if (bias && !broadcastsTo(bias, scores)) {
    throw new ShapeError(`attention: bias ${showShape(bias)} does not broadcast to ${showShape(scores)}`);
  }
  const p = attrs.dropout?.p ?? 0;
  if (!(p >= 0 && p < 1)) throw new ShapeError(`attention: dropout p is ${p}, expected 0 <= p < 1`);
  return q;
}

function checkOperands(q: Shape, k: Shape, v: Shape, { heads, kvHeads = heads }: AttentionAttrs): void {
  const channels = q[2] as number;
  if (q.length === 3 && (!Number.isInteger(heads) || heads < 1 || channels === 0 || channels % heads !== 0)) {
    throw new ShapeError(`attention: ${channels} channels do not split into ${heads} heads`);
  }
  if (!Number.isInteger(kvHeads) || kvHeads < 1 || heads % kvHeads !== 0) {
    throw new ShapeError(`attention: ${heads} heads of queries do not share ${kvHeads} heads of keys`);
  }
  const fits = k.length === 3 && sameShape(k, v) && k[0] === q[0] && k[2] === (channels / heads) * kvHeads;
  if (q.length === 3 && fits) return;
  const wanted = kvHeads === heads ? "[B, S, C] twice" : `[B, S, C ${kvHeads} / ${heads}] twice`;
  throw new ShapeError(
    `attention: q ${showShape(q)}, k ${showShape(k)}, v ${showShape(v)}; expected [B, T, C], ${wanted}`,
  );
}

function broadcastsTo(shape: Shape, target: Shape): boolean {
  const lead = target.length - shape.length;
  return lead >= 0 && shape.every((n, i) => n === 1 || n === target[lead + i]);
}

/** What kernels are told of the whole: all but the block. */
export function paramsOf(
  sizes: AttentionSizes,
  keep: GpuArray | null,
  bias: GpuArray | null,
  attrs: AttentionAttrs,
): AttentionParams {
  const p = attrs.dropout?.p ?? 0;
  const [bias_batch = 0, bias_head = 0, bias_query = 0, bias_key = 0] = bias ? biasStrides(bias.shape) : [];
  return {
    all_heads: sizes.heads,
    all_queries: sizes.queries,
    keys: sizes.keys,
    capacity: sizes.capacity,
    share: sizes.share,
    scale: attrs.scale ?? 1 / Math.sqrt(sizes.headSize),
    masked: keep ? 1 : 0,
    keep_row: keep?.shape[1] ?? 0,
    causal: attrs.causal ? 1 : 0,
    bias_batch,
    bias_head,
    bias_query,
    bias_key,
    dropout: p > 0 ? 1 : 0,
    threshold: dropThreshold(p),
    keep_scale: 1 / (1 - p),
    ...drawParams(attrs.dropout?.draw ?? null),
    dv_start: 0,
    first_drawn: 0,
    head_size: sizes.headSize,
    has_bias: bias ? 1 : 0,
    parts: 1,
  };
}

/** Strides of a bias over [B, H, T, S], 0 where it is broadcast. */
function biasStrides(shape: Shape): number[] {
  const full = [...Array(4 - shape.length).fill(1), ...shape] as number[];
  let stride = 1;
  for (let i = 3; i >= 0; i--) {
    const n = full[i] as number;
    full[i] = n === 1 ? 0 : stride;
    stride *= n;
  }
  return full;
}
