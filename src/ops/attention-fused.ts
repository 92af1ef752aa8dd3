import type { Gpu, GpuArray } from "../array/index.ts";
import { grid1d, type KernelSpec } from "../gpu/index.ts";
import type { AttentionParams, AttentionSizes } from "./attention-problem.ts";
import { threads } from "./kernels.ts";

/** Attention in one kernel that streams over the keys: of GPUs, and of software adapters for single queries. */

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
 * The head size is a constant of the kernel, since it sizes local arrays, and so is whether there is a bias; lengths
 * are parameters. `lanes`: of a subgroup that shares a query; 0: a workgroup does.
 */
function kernel(shader: string, entry: string, headSize: number, hasBias: boolean, lanes = 0): KernelSpec {
  const key = `${shader}.${entry} ${headSize} ${hasBias} ${lanes}`;
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
    spec = { shader, entry, constants, uses };
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

function whole({ batch, heads, queries }: AttentionSizes): AttentionParams {
  return { batch, heads, queries, first_batch: 0, first_head: 0, first_query: 0 };
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
  const rows = batch * heads * queries;
  if (rows === 0) return { y, measure };
  const all = { ...params, ...whole(sizes) };
  const hasBias = arrays.bias !== null;
  if (hasFewQueries(gpu, sizes)) {
    const lanes = gpu.isSoftware ? gpu.subgroupSize : 0;
    const shared = kernel("attention_query", "forward", headSize, hasBias, lanes);
    gpu.run(shared, { ...arrays, y, measure }, all, grid1d(rows));
  } else {
    gpu.run(kernel("attention", "forward", headSize, hasBias), { ...arrays, y, measure }, all, threads(rows));
  }
  return { y, measure };
}

/** Gradients of q, k, v and the bias; the weights are computed again from `measure`. */
export function fusedGradients(
  gpu: Gpu,
  dy: GpuArray,
  arrays: AttentionArrays,
  saved: { readonly y: GpuArray; readonly measure: GpuArray },
  sizes: AttentionSizes,
  params: AttentionParams,
  needs: readonly boolean[],
): (GpuArray | null)[] {
  const [needsQ, needsK, needsV, , needsBias] = needs;
  const { q, k, v, keep, bias, clock } = arrays;
  const { batch, heads, capacity, headSize, share } = sizes;
  const rows = saved.measure.size / 2;
  // dv starts where a kernel can bind it.
  const start = Math.ceil(k.size / 64) * 64;
  const all = { ...params, ...whole(sizes), dv_start: start / (headSize % 4 === 0 ? 4 : 1) };
  const spec = (entry: string) => kernel("attention", entry, headSize, bias !== null);
  const sums = gpu.empty([rows + 1, 4], "u32");
  const measured = { clock, dy, measure_saved: saved.measure, y_saved: saved.y };
  gpu.run(spec("backward_sums"), { ...measured, sums }, all, threads(Math.max(rows, 1)));
  const common = { q, k, v, keep, bias, sums_saved: sums, dy };
  const dq = needsQ ? gpu.like(q) : null;
  if (dq && rows > 0) gpu.run(spec("backward_q"), { ...common, dq }, all, threads(rows));
  let dk: GpuArray | null = null;
  let dv: GpuArray | null = null;
  if (needsK || needsV) {
    const dkv = gpu.empty([start + k.size]);
    if (k.size > 0)
      gpu.run(spec("backward_kv"), { ...common, dkv }, all, threads((batch * heads * capacity) / share));
    dk = needsK ? gpu.view(dkv, k.shape) : null;
    dv = needsV ? gpu.view(dkv, v.shape, start) : null;
  }
  const dbias = needsBias && bias ? gpu.like(bias) : null;
  if (dbias && dbias.size > 0) gpu.run(spec("backward_bias"), { ...common, dbias }, all, threads(dbias.size));
  return [dq, dk, dv, null, dbias];
}
