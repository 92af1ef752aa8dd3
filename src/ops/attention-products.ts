import type { Gpu, GpuArray } from "../array/index.ts";
import { grid1d, type KernelSpec } from "../gpu/index.ts";
import type { AttentionArrays } from "./attention-fused.ts";
import type { AttentionParams, AttentionSizes } from "./attention-problem.ts";
import { gemm, type Layout, type Product } from "./gemm.ts";
import { rowKernel, threads, zeros } from "./kernels.ts";

/**
 * Attention of software adapters: matrix products around a softmax, with the [T, S] weights in memory. There these
 * kernels are many times as fast as the fused one, whose threads each load every key. Weights beyond a limit are made
 * block by block in one reused array.
 */

/** Default of `weightBytes`. */
const MOST_WEIGHT_BYTES = 64 * 2 ** 20;

/** Softmax weights [B, H, T, S], and the same after dropout (the same array without it). */
export interface AttentionWeights {
  readonly p: GpuArray;
  readonly used: GpuArray;
}

/** Entries, heads and queries whose weights are made at a time. */
interface Block {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly first_batch: number;
  readonly first_head: number;
  readonly first_query: number;
}

type BlockSize = Pick<Block, "batch" | "heads" | "queries">;

/**
 * The largest blocks whose weights take up to `bytes`: entries of the batch, else heads (whole groups that share keys,
 * or an equal part of one), else queries of one head.
 */
export function blockSize({ batch, heads, queries, keys, share }: AttentionSizes, bytes: number): BlockSize {
  const perHead = queries * keys * 4;
  const entries = Math.floor(bytes / (heads * perHead));
  if (entries >= 1 || perHead === 0) return { batch: Math.min(batch, entries), heads, queries };
  const some = Math.floor(bytes / perHead);
  if (some < 1) return { batch: 1, heads: 1, queries: Math.max(1, Math.floor(bytes / (keys * 4))) };
  let part = some >= share ? some - (some % share) : some;
  while (share % part !== 0 && part % share !== 0) part--;
  return { batch: 1, heads: part, queries };
}

function* blocks({ batch, heads, queries }: AttentionSizes, size: BlockSize): Iterable<Block> {
  for (let first_batch = 0; first_batch < batch; first_batch += size.batch) {
    for (let first_head = 0; first_head < heads; first_head += size.heads) {
      for (let first_query = 0; first_query < queries; first_query += size.queries) {
        yield {
          batch: Math.min(size.batch, batch - first_batch),
          heads: Math.min(size.heads, heads - first_head),
          queries: Math.min(size.queries, queries - first_query),
          first_batch,
          first_head,
          first_query,
        };
      }
    }
  }
}

/** Where the operands of a block lie. Heads are slices of the channels: rows are all channels apart, heads D. */
interface BlockLayout {
  readonly ofQueries: Layout;
  readonly ofKeys: Layout;
  readonly ofWeights: Layout;
  /** Products of one block for each query head: batch, inner and share of `gemm`. */
  readonly perHead: Pick<Product, "batch" | "inner" | "share">;
}

function layoutOf(
  block: Block,
  { queries: T, heads, headSize: D, keys: S, capacity, share }: AttentionSizes,
): BlockLayout {
  const C = heads * D;
  const keyC = C / share;
  const { first_batch: n, first_head: h, first_query: i } = block;
  return {
    ofQueries: { start: (n * T + i) * C + h * D, row: C, stride: T * C, inner: D },
    ofKeys: {
      start: n * capacity * keyC + Math.floor(h / share) * D,
      row: keyC,
      stride: capacity * keyC,
      inner: D,
    },
    ofWeights: { row: S, stride: block.heads * block.queries * S, inner: block.queries * S },
    perHead: { batch: block.batch * block.heads, inner: block.heads, share },
  };
}

/** What the parts of one attention share. */
interface Work {
  readonly gpu: Gpu;
  readonly arrays: AttentionArrays;
  readonly sizes: AttentionSizes;
  readonly params: AttentionParams;
}

const rowKernels = {
  forward: rowKernel("attention_weights", "forward"),
  drop: rowKernel("attention_weights", "drop"),
  backward: rowKernel("attention_weights", "backward"),
};
const biasKernel: KernelSpec = { shader: "attention_weights", entry: "backward_bias" };
const withBias = new WeakMap<KernelSpec, KernelSpec>();

function weightsKernel(gpu: Gpu, entry: keyof typeof rowKernels, keys: number, hasBias = false): KernelSpec {
  const { kernel } = rowKernels[entry](gpu, keys);
  if (!hasBias) return kernel;
  let biased = withBias.get(kernel);
  if (!biased) {
    biased = { ...kernel, constants: { ...kernel.constants, HAS_BIAS: "true" } };
    withBias.set(kernel, biased);
  }
  return biased;
}

/** c = scale a bᵀ for each head, a of queries, b of keys: scores, or the gradient of the used weights. */
function pairs({ gpu, sizes }: Work, block: Block, a: GpuArray, b: GpuArray, c: GpuArray, scale = 1): void {
  const { ofQueries, ofKeys, ofWeights, perHead } = layoutOf(block, sizes);
  const shape = { M: block.queries, N: sizes.keys, K: sizes.headSize, transposeB: true, scale };
  gemm(gpu, { a, b, c, ...shape, ...perHead, layoutA: ofQueries, layoutB: ofKeys, layoutC: ofWeights });
}

/** c = scale weights b for each head, b of keys, c of queries: the output, or dq. */
function toQueries(
  { gpu, sizes }: Work,
  block: Block,
  weights: GpuArray,
  b: GpuArray,
  c: GpuArray,
  scale = 1,
): void {
  const { ofQueries, ofKeys, ofWeights, perHead } = layoutOf(block, sizes);
  const shape = { M: block.queries, N: sizes.headSize, K: sizes.keys, scale };
  const layouts = { layoutA: ofWeights, layoutB: ofKeys, layoutC: ofQueries };
  gemm(gpu, { a: weights, b, c, ...shape, ...perHead, ...layouts });
}

/** c = scale Σ weightsᵀ b over the heads that share keys, b of queries, c of keys: dv, or dk. */
function toKeys(
  { gpu, sizes }: Work,
  block: Block,
  weights: GpuArray,
  b: GpuArray,
  c: GpuArray,
  scale = 1,
): void {
  const { ofQueries, ofKeys, ofWeights } = layoutOf(block, sizes);
  const { headSize: D, keys: S, share } = sizes;
  const sums = Math.min(block.heads, share);
  const inner = block.heads / sums;
  gemm(gpu, {
    a: weights,
    b,
    c,
    M: S,
    N: D,
    K: block.queries,
    transposeA: true,
    scale,
    sums,
    inner,
    batch: block.batch * inner,
    layoutA: { ...ofWeights, inner: sums * block.queries * S, sum: block.queries * S },
    layoutB: { ...ofQueries, inner: sums * D, sum: D },
    layoutC: ofKeys,
    // Blocks of other queries, or of other heads of a group, were here before.
    accumulate: block.first_query > 0 || block.first_head % share > 0,
  });
}

/** Softmax weights of a block into p, and after dropout into `dropped`, where there is one. */
function makeWeights(work: Work, block: Block, p: GpuArray, dropped: GpuArray | null): void {
  const { gpu, arrays, params } = work;
  const { keys } = work.sizes;
  const { q, k, keep, bias, clock } = arrays;
  pairs(work, block, q, k, p, params.scale);
  const rows = block.batch * block.heads * block.queries;
  // The product has scaled the scores.
  const all = { ...params, ...block, scale: 1 };
  const softmax = weightsKernel(gpu, "forward", keys, bias !== null);
  gpu.run(softmax, { x: p, keep, bias }, all, grid1d(rows));
  if (dropped) gpu.run(weightsKernel(gpu, "drop", keys), { p, clock, used: dropped }, all, grid1d(rows));
}

/** Arrays for the weights of any block of a size: views of one that is made once. */
function reused(gpu: Gpu, { keys }: AttentionSizes, size: BlockSize): (block: Block) => GpuArray {
  const room = gpu.empty([size.batch, size.heads, size.queries, keys]);
  return ({ batch, heads, queries }) => gpu.view(room, [batch, heads, queries, keys]);
}

function limitOf(gpu: Gpu, weightBytes = MOST_WEIGHT_BYTES): number {
  return Math.min(weightBytes, gpu.maxBindingBytes);
}

function isWhole(size: BlockSize, { batch, heads, queries }: AttentionSizes): boolean {
  return size.batch === batch && size.heads === heads && size.queries === queries;
}

/** y, and the weights where one block holds all of them. */
export function attendByProducts(
  gpu: Gpu,
  arrays: AttentionArrays,
  sizes: AttentionSizes,
  params: AttentionParams,
  weightBytes?: number,
): { readonly y: GpuArray; readonly weights: AttentionWeights | null } {
  const y = gpu.like(arrays.q);
  const work = { gpu, arrays, sizes, params };
  const size = blockSize(sizes, limitOf(gpu, weightBytes));
  const roomForP = reused(gpu, sizes, size);
  const roomForUsed = params.dropout === 1 ? reused(gpu, sizes, size) : null;
  let weights: AttentionWeights | null = null;
  for (const block of blocks(sizes, size)) {
    const p = roomForP(block);
    const dropped = roomForUsed?.(block) ?? null;
    makeWeights(work, block, p, dropped);
    toQueries(work, block, dropped ?? p, arrays.v, y);
    weights = { p, used: dropped ?? p };
  }
  return { y, weights: isWhole(size, sizes) ? weights : null };
}

/**
 * dv = usedᵀ dy; ds = p (g - Σ g p), g from dy vᵀ; dq = scale ds k, dk = scale dsᵀ q, dbias = ds summed over what it was
 * broadcast to. Without `weights` they are made again, block by block.
 */
export function gradientsByProducts(
  gpu: Gpu,
  dy: GpuArray,
  arrays: AttentionArrays,
  weights: AttentionWeights | null,
  sizes: AttentionSizes,
  params: AttentionParams,
  needs: readonly boolean[],
  weightBytes?: number,
): (GpuArray | null)[] {
  const [needsQ, needsK, needsV, , needsBias] = needs;
  const { q, k, v, bias } = arrays;
  const work = { gpu, arrays, sizes, params };
  const size = blockSize(sizes, weights ? Number.POSITIVE_INFINITY : limitOf(gpu, weightBytes));
  const roomForP = weights ? null : reused(gpu, sizes, size);
  const roomForUsed = !weights && params.dropout === 1 ? reused(gpu, sizes, size) : null;
  const needsScores = needsQ || needsK || needsBias;
  const roomForG = needsScores ? reused(gpu, sizes, size) : null;
  // Rows of a cache beyond the keys get no gradient, and without queries none does.
  const ofKeys = (x: GpuArray) =>
    sizes.capacity > sizes.keys || sizes.queries === 0 ? zeros(gpu, x.shape) : gpu.like(x);
  const dq = needsQ ? gpu.like(q) : null;
  const dk = needsK ? ofKeys(k) : null;
  const dv = needsV ? ofKeys(v) : null;
  const dbias = needsBias && bias ? zeros(gpu, bias.shape) : null;
  for (const block of blocks(sizes, size)) {
    const p = weights?.p ?? (roomForP?.(block) as GpuArray); // one of the two is there
    const used = weights?.used ?? roomForUsed?.(block) ?? p;
    if (!weights) makeWeights(work, block, p, used === p ? null : used);
    if (dv) toKeys(work, block, used, dy, dv);
    const ds = roomForG?.(block);
    if (!ds) continue;
    pairs(work, block, dy, v, ds);
    scoreGradients(work, block, p, ds, dbias);
    if (dq) toQueries(work, block, ds, k, dq, params.scale);
    if (dk) toKeys(work, block, ds, q, dk, params.scale);
  }
  return [dq, dk, dv, null, dbias];
}

/** In `ds`, which holds the gradient of the used weights: the gradient of the scores. Adds to dbias. */
function scoreGradients(
  { gpu, arrays, sizes, params }: Work,
  block: Block,
  p: GpuArray,
  ds: GpuArray,
  dbias: GpuArray | null,
): void {
  const { keep, clock } = arrays;
  const all = { ...params, ...block };
  const rows = block.batch * block.heads * block.queries;
  gpu.run(weightsKernel(gpu, "backward", sizes.keys), { p, keep, clock, g: ds }, all, grid1d(rows));
  if (!dbias) return;
  const { bias_batch, bias_head, bias_query, bias_key } = params;
  const part = (stride: number | undefined, n: number) => (stride === 0 ? 1 : n);
  const elements =
    part(bias_batch, block.batch) *
    part(bias_head, block.heads) *
    part(bias_query, block.queries) *
    part(bias_key, sizes.keys);
  gpu.run(biasKernel, { ds, dbias }, all, threads(elements));
}
