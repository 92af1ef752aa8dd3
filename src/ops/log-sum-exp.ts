import type { Gpu, GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { type AxesAttrs, axesOf, type Middle, middleOf, movedBack, partsOf, reducedShape } from "./axes.ts";
import { defineOp } from "./define-op.ts";
import { fill, threads } from "./kernels.ts";

const partsKernel: KernelSpec = { shader: "log_sum_exp", entry: "parts" };
const joinKernel: KernelSpec = { shader: "log_sum_exp", entry: "join" };
const backwardKernel: KernelSpec = { shader: "log_sum_exp", entry: "backward" };

const NEGATIVE_INFINITY_BITS = 0xff800000;

function reduced(gpu: Gpu, { x, outer, rows, inner }: Middle): GpuArray {
  let pair: { readonly m: GpuArray; readonly s: GpuArray } | null = null;
  let left = rows;
  for (const parts of partsOf(rows)) {
    const next: { readonly m: GpuArray; readonly s: GpuArray } = {
      m: gpu.empty([outer, parts, inner]),
      s: gpu.empty([outer, parts, inner]),
    };
    const params = { outer, rows: left, inner, parts };
    const grid = threads(next.m.size);
    if (pair) gpu.run(joinKernel, { part_m: pair.m, part_s: pair.s, ...next }, params, grid);
    else gpu.run(partsKernel, { x, ...next }, params, grid);
    pair = next;
    left = parts;
  }
  return pair?.m ?? gpu.empty([outer, inner]);
}

interface LogSumExpSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray;
  readonly y: GpuArray;
}

/**
 * log Σ exp(x) over some dimensions (all, when none are given), as max + log Σ exp(x - max): without overflow. Of nothing,
 * and of -Infinity alone, -Infinity. dx = dy exp(x - y), the softmax. Saves x and y.
 */
export const logSumExp = defineOp<readonly [GpuArray], AxesAttrs, LogSumExpSaved>({
  name: "logSumExp",
  shape: ([x], attrs) => reducedShape("logSumExp", x, attrs),
  forward(gpu, [x], { axes }, _needs, shape) {
    const middle = middleOf(gpu, x, axesOf("logSumExp", x.shape.length, axes));
    if (x.size > 0) {
      const y = gpu.view(reduced(gpu, middle), shape);
      return { output: y, saved: { x, y } };
    }
    const y = gpu.empty(shape);
    fill(gpu, y, NEGATIVE_INFINITY_BITS);
    return { output: y, saved: { x, y } };
  },
  backward(gpu, dy, { x, y }, { axes }) {
    const list = axesOf("logSumExp", x.shape.length, axes);
    const middle = middleOf(gpu, x, list);
    const dx = gpu.empty(middle.x.shape);
    const { outer, rows, inner } = middle;
    const params = { outer, rows, inner, parts: 0 };
    if (x.size > 0) gpu.run(backwardKernel, { x: middle.x, y_saved: y, dy, dx }, params, threads(x.size));
    return [middle.x === x ? dx : movedBack(gpu, dx, x.shape, list)];
  },
});
