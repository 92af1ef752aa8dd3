import { type Gpu, type GpuArray, showShape } from "../array/index.ts";
import { GpuError, grid1d, type KernelSpec, type Work } from "../gpu/index.ts";
import type { AttentionParams, AttentionSizes } from "./attention-problem.ts";
import { biasTiles, tileGrid, tileKernel } from "./attention-tiles.ts";
import { accumulate, copyInto, zeros } from "./kernels.ts";
import { areInOneChunk, eachRange, runRows } from "./ranges.ts";
import { sumMiddle } from "./reduce.ts";

/** Attention in kernels that stream over the keys: of GPUs, and of software adapters for single queries. */

export interface AttentionArrays {
  readonly q: GpuArray;
  readonly k: GpuArray;
  readonly v: GpuArray;
  readonly keep: GpuArray | null;
  readonly bias: GpuArray | null;
  readonly clock: GpuArray | null;
}

const variants = new Map<string, KernelSpec>();

/**
 * The kernel of few queries. The head size is a constant, since it sizes local arrays, and so is whether there is a
 * bias; lengths are parameters. `lanes`: of a software adapter's subgroup, which shares a query; 0: a workgroup does.
 */
function queryKernel(headSize: number, hasBias: boolean, lanes: number): KernelSpec {
  const key = `${headSize} ${hasBias} ${lanes}`;
  let spec = variants.get(key);
  if (!spec) {
    const width = headSize % 4 === 0 ? 4 : 1;
    const uses: Record<string, string> = width === 1 ? { "lib/vec4": "lib/scalar" } : {};
    const constants: Record<string, string> = { GROUPS: `${headSize / width}u`, HAS_BIAS: `${hasBias}` };
    if (lanes > 0) {
      uses["lib/row_workgroup"] = "lib/row_subgroup";
      uses["lib/lanes_workgroup"] = "lib/lanes_subgroup";
      constants.LANES = `${lanes}u`;
    }
    const shader = lanes > 0 ? "attention_query" : "attention_few";
    spec = { shader, entry: "forward", constants, uses };
    variants.set(key, spec);
  }
  return spec;
}

/**
 * Whether a query is shared by lanes: up to 8 of them, where a GPU would else have one busy thread for each head. On
 * software adapters one (lavapipe, 12 heads of 64, 512 keys: 1.0 ms, 1.2 by products; for two queries 2.0 and 1.2).
 */
export function hasFewQueries(gpu: Gpu, { queries }: AttentionSizes): boolean {
  return queries <= (gpu.isSoftware ? 1 : 8);
}

/** The block that is the whole of arrays which hold `batch` entries from `first` on. */
function whole(
  params: AttentionParams,
  { heads, queries }: AttentionSizes,
  batch: number,
  first = 0,
): AttentionParams {
  const block = { batch, heads, queries, first_batch: 0, first_head: 0, first_query: 0 };
  return { ...params, ...block, first_drawn: first };
}

/** y, and [B, H, T, 2]: the largest score of each query, and 1 / Σ exp(score - largest). */
export function attendFused(
  gpu: Gpu,
  arrays: AttentionArrays,
  sizes: AttentionSizes,
  params: AttentionParams,
): { readonly y: GpuArray; readonly measure: GpuArray } {
  const { batch, heads, queries, headSize } = sizes;
  const y = gpu.like(arrays.q);
  const measure = gpu.empty([batch, heads, queries, 2]);
  if (measure.size === 0) return { y, measure };
  const { q, k, v, keep, bias, clock } = arrays;
  const hasBias = bias !== null;
  const few = hasFewQueries(gpu, sizes);
  const lanes = gpu.isSoftware ? gpu.subgroupSize : 0;
  const spec = few ? queryKernel(headSize, hasBias, lanes) : tileKernel("forward", headSize);
  const own = params.bias_batch !== 0;
  runRows(gpu, spec, {
    rows: batch,
    split: { q, k, v, keep, y, measure, ...(own && { bias }) },
    whole: own ? { clock } : { clock, bias },
    params: (first, n) => whole(params, sizes, n, first),
    count: null,
    grid: (n) => (few ? grid1d(n * heads * queries) : tileGrid(n, heads, queries, headSize)),
    work: (n) => products(2, { ...sizes, batch: n }),
  });
  return { y, measure };
}

/** Operations of so many products of all queries with all keys: counted as if nothing were masked. */
function products(count: number, { batch, heads, queries, keys, headSize }: AttentionSizes): Work {
  return { flops: count * 2 * batch * heads * queries * keys * headSize };
}

interface Measured {
  readonly y: GpuArray;
  readonly measure: GpuArray;
}

/** Gradients of q, k, v and the bias: entry by entry where an array lies in several chunks. */
export function fusedGradients(
  gpu: Gpu,
  dy: GpuArray,
  arrays: AttentionArrays,
  saved: Measured,
  sizes: AttentionSizes,
  params: AttentionParams,
  needs: readonly boolean[],
): (GpuArray | null)[] {
  const { q, k, v, keep, bias } = arrays;
  const own = params.bias_batch !== 0;
  const split = { dy, q, k, v, keep, y: saved.y, measure: saved.measure, ...(own && { bias }) };
  const most = mostEntries(gpu, k, sizes);
  if (sizes.batch <= most && areInOneChunk(split))
    return gradientsOf(gpu, dy, arrays, saved, whole(params, sizes, sizes.batch), sizes, needs);
  const [dq, dk, dv] = [q, k, v].map((x, i) => (needs[i] ? gpu.like(x) : null));
  const dbias = needs[4] && bias ? zeros(gpu, bias.shape) : null;
  const written = { dq: dq ?? null, dk: dk ?? null, dv: dv ?? null, ...(own && { dbias }) };
  const ranges = { rows: sizes.batch, arrays: { ...split, ...written }, most };
  eachRange(gpu, "attention.backward", ranges, new Set(Object.keys(written)), (parts, first, n) => {
    const part = { ...arrays, ...parts } as AttentionArrays & Measured & { readonly dy: GpuArray };
    const some = { ...sizes, batch: n };
    const gradients = gradientsOf(gpu, part.dy, part, part, whole(params, sizes, n, first), some, needs);
    const targets = [parts.dq, parts.dk, parts.dv, null, own ? parts.dbias : dbias];
    for (const [i, gradient] of gradients.entries()) {
      const target = targets[i];
      if (!gradient || !target) continue;
      if (target === dbias) accumulate(gpu, dbias, gradient);
      else copyInto(gpu, gradient, gpu.view(target, gradient.shape));
    }
  });
  return [dq ?? null, dk ?? null, dv ?? null, null, dbias];
}

/** Entries of which one binding holds both dk and dv, and what is saved for each query. */
function mostEntries(gpu: Gpu, k: GpuArray, { batch, heads, queries }: AttentionSizes): number {
  const bytes = Math.max(2 * (k.bytes / batch) + 256, 16 * (heads * queries + 1));
  const most = Math.floor(gpu.maxBindingBytes / bytes);
  if (most > 0 || batch === 0) return Math.max(most, 1);
  throw new GpuError(
    `attention.backward: an entry of k ${showShape(k.shape)} takes ${bytes} bytes, and the largest binding here is ${gpu.maxBindingBytes} bytes`,
  );
}

/** The same of arrays that can be bound; the weights are computed again from `measure`. */
function gradientsOf(
  gpu: Gpu,
  dy: GpuArray,
  arrays: AttentionArrays,
  saved: Measured,
  params: AttentionParams,
  sizes: AttentionSizes,
  needs: readonly boolean[],
): (GpuArray | null)[] {
  const [needsQ, needsK, needsV, , needsBias] = needs;
  const { q, k, v, keep, bias, clock } = arrays;
  const { batch, heads, queries, capacity, headSize, share } = sizes;
  const rows = saved.measure.size / 2;
  // dv starts where a kernel can bind it.
  const start = Math.ceil(k.size / 64) * 64;
  const all = { ...params, dv_start: start };
  const kernel = (entry: Parameters<typeof tileKernel>[0]) => tileKernel(entry, headSize);
  const sums = gpu.empty([rows + 1, 4], "u32");
  const measured = { clock, dy, measure: saved.measure, y: saved.y };
  gpu.run(kernel("backward_sums"), { ...measured, sums }, all, grid1d(Math.ceil((rows + 1) / SUMS_AT_ONCE)));
  const common = { q, k, v, keep, bias, sums_saved: sums, dy };
  const dq = needsQ ? gpu.like(q) : null;
  if (dq && rows > 0) {
    const grid = tileGrid(batch, heads, queries, headSize);
    gpu.run(kernel("backward_q"), { ...common, dq }, all, grid, products(3, sizes));
  }
  let dk: GpuArray | null = null;
  let dv: GpuArray | null = null;
  if (needsK || needsV) {
    const dkv = gpu.empty([start + k.size]);
    const grid = tileGrid(batch, heads / share, capacity, headSize);
    if (k.size > 0) gpu.run(kernel("backward_kv"), { ...common, dkv }, all, grid, products(4, sizes));
    dk = needsK ? gpu.view(dkv, k.shape) : null;
    dv = needsV ? gpu.view(dkv, v.shape, start) : null;
  }
  const dbias = needsBias && bias ? biasGradient(gpu, kernel("backward_bias"), common, sizes, all) : null;
  return [dq, dk, dv, null, dbias];
}

/** Queries of one workgroup of `backward_sums`. */
const SUMS_AT_ONCE = 8;

/** Σ ds over what the bias was broadcast to: in parts, where its own tiles would leave a GPU idle. */
function biasGradient(
  gpu: Gpu,
  kernel: KernelSpec,
  arrays: { readonly bias: GpuArray | null; readonly [name: string]: GpuArray | null },
  sizes: AttentionSizes,
  params: AttentionParams,
): GpuArray | null {
  const { bias } = arrays;
  if (!bias) return null;
  const dbias = gpu.like(bias);
  if (dbias.size === 0) return dbias;
  const { parts, grid } = biasTiles(bias, sizes, params);
  const sums = parts === 1 ? dbias : gpu.empty([parts, bias.size]);
  gpu.run(kernel, { ...arrays, dbias: sums }, { ...params, parts }, grid, products(2, sizes));
  return parts === 1 ? dbias : sumMiddle(gpu, sums, 1, parts, bias.size, { into: dbias });
}
