import { type Gpu, type GpuArray, lastOf, rowsOf, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { bestOfParts, NOTHING, takeKernel } from "./extreme.ts";
import { contiguous } from "./kernels.ts";
import { runRows, threads } from "./ranges.ts";
import { orderOf } from "./sort.ts";
import { kindOf } from "./words.ts";

export interface TopKAttrs {
  readonly k: number;
  /** false: the smallest. Default true. */
  readonly largest?: boolean | undefined;
}

/** Beyond it, sorting whole rows takes less time than taking elements one by one. */
const MOST_TAKEN = 128;

/**
 * The best of each group, the best of each group of groups, and then k times the best of all, after which only its own
 * groups are searched again: groups of the cube root of the row, so that one element costs about 5 of them.
 */
function taken(gpu: Gpu, x: GpuArray, k: number, flip: number): GpuArray {
  const { rows, columns: n } = rowsOf(x.shape);
  const size = Math.ceil(Math.cbrt(n));
  const groups = Math.ceil(n / size);
  const tops = Math.ceil(groups / size);
  const order = { flip, nan_wins: 0 };
  const middle = { x, outer: rows, rows: n, inner: 1 };
  const first = bestOfParts(gpu, middle, groups, order);
  const second = bestOfParts(gpu, middle, tops, order, first);
  const chosen = gpu.empty([rows, k], "i32");
  const params = { ...NOTHING, ...order, kind: kindOf(x), length: n, groups, tops, k };
  const split = { x, first, second, chosen };
  runRows(gpu, takeKernel, { rows, split, params, count: "outer", grid: threads });
  return chosen;
}

/**
 * Where the k largest elements of the last dimension lie, in their order, of equals the first: x [..., C] of any type ->
 * i32 [..., k]. NaN is the largest, and -0 equals 0. No derivative. Reads x once, and few elements more for each result;
 * for k beyond 128 it sorts.
 */
export const topKIndices = defineOp<readonly [GpuArray], TopKAttrs, Record<string, never>>({
  name: "topK",
  dtypes: "any",
  result: () => "i32",
  shape([x], { k }) {
    if (x.length === 0) throw new ShapeError(`topK: ${showShape(x)} has no last dimension to choose from`);
    if (!Number.isInteger(k) || k < 0 || k > lastOf(x))
      throw new ShapeError(`topK: k is ${k}, expected 0..${lastOf(x)}, the last size of ${showShape(x)}`);
    return [...x.slice(0, -1), k];
  },
  forward(gpu, [x], { k, largest = true }, _needs, shape) {
    if (k === 0 || x.size === 0) return { output: gpu.empty(shape, "i32"), saved: {} };
    if (k <= MOST_TAKEN) return { output: gpu.view(taken(gpu, x, k, largest ? 0 : 1), shape), saved: {} };
    const order = orderOf(gpu, x, largest);
    return { output: contiguous(gpu, gpu.view(order, shape, 0, order.strides)), saved: {} };
  },
});
