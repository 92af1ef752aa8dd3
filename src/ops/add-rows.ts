import type { Gpu, GpuArray } from "../array/index.ts";
import { groupByKey, type Keys } from "./group.ts";
import { columnKernel, threads } from "./kernels.ts";

const partialKernel = columnKernel("add_rows", "partial");
const finishKernel = columnKernel("add_rows", "finish");

/** Pairs that one thread adds up: BLOCK of shaders/add_rows.wgsl. */
const BLOCK = 64;

/**
 * target[o, key(i), c] += values[o, i, c], rows of equal keys added in the order of i: values [outer, n, C],
 * target [outer, bound, C], where `bound` is that of the keys. No atomics: two runs give the same bits.
 * Costs n · 64 comparisons for every six bits of a key, and reads values once.
 */
export function addRows(gpu: Gpu, values: GpuArray, keys: Keys, target: GpuArray, outer = 1): void {
  const n = keys.indices.size;
  if (values.size === 0 || target.size === 0) return;
  const width = values.size / n / outer;
  const sorted = groupByKey(gpu, keys);
  const blocks = Math.ceil(n / BLOCK);
  const parts = gpu.empty([outer, blocks, width]);
  const { kernel: partial, columns } = partialKernel(width);
  const params = { n, bound: keys.bound, columns, outer, blocks };
  if (blocks > 1) gpu.run(partial, { sorted, values, parts }, params, threads(outer * blocks * columns));
  const { kernel: finish } = finishKernel(width);
  gpu.run(
    finish,
    { sorted, values, parts_saved: parts, target_rows: target },
    params,
    threads(outer * n * columns),
  );
}
