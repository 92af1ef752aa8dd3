import { type Gpu, type GpuArray, rowsOf, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { runRows, threads } from "./ranges.ts";
import { kindOf } from "./words.ts";

export interface SortAttrs {
  /** From the largest down. */
  readonly descending?: boolean | undefined;
}

const blocksKernel: KernelSpec = { shader: "sort", entry: "blocks" };
const mergeKernel: KernelSpec = { shader: "sort", entry: "merge" };

/** Elements of a block, and of one thread's share of a merge, in shaders/sort.wgsl. */
const BLOCK = 16;

interface Runs {
  readonly keys: GpuArray;
  readonly places: GpuArray;
}

/** Where the elements of each row lie in order: x [rows, n] -> i32 [rows, n]. */
export function orderOf(gpu: Gpu, x: GpuArray, descending: boolean): GpuArray {
  const { rows, columns: n } = rowsOf(x.shape);
  const empty = (): Runs => ({ keys: gpu.empty(x.shape, "i32"), places: gpu.empty(x.shape, "i32") });
  let from = empty();
  if (x.size === 0) return from.places;
  const params = { n, kind: kindOf(x), flip: descending ? 1 : 0 };
  const into = ({ keys, places }: Runs) => ({ sorted_keys: keys, sorted_places: places });
  const first = { x, ...into(from) };
  runRows(gpu, blocksKernel, {
    rows,
    split: first,
    params: { ...params, run: 0 },
    grid: (m) => threads(m * n),
  });
  let to = n > BLOCK ? empty() : from;
  for (let run = BLOCK; run < n; run *= 2) {
    runRows(gpu, mergeKernel, {
      rows,
      split: { ...from, ...into(to) },
      params: { ...params, run },
      grid: (m) => threads(m * Math.ceil(n / BLOCK)),
    });
    [from, to] = [to, from];
  }
  return from.places;
}

/**
 * The order of the last dimension: i32 indices that sort it. x [..., C] of any type -> [..., C]. Stable: equal elements
 * keep their order, in both directions. NaN is the largest, and -0 equals 0. No derivative. log2(C / 16) passes.
 */
export const argsort = defineOp<readonly [GpuArray], SortAttrs, Record<string, never>>({
  name: "argsort",
  dtypes: "any",
  result: () => "i32",
  shape([x]) {
    if (x.length === 0) throw new ShapeError(`argsort: ${showShape(x)} has no last dimension to sort`);
    return x;
  },
  forward: (gpu, [x], { descending = false }) => ({ output: orderOf(gpu, x, descending), saved: {} }),
});
