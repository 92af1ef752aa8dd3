import type { Gpu, GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { type AxesAttrs, axesOf, type Middle, middleOf, movedBack, partsOf, reducedShape } from "./axes.ts";
import { defineOp } from "./define-op.ts";
import { fill } from "./kernels.ts";
import { labelOf, threads } from "./ranges.ts";
import { eachSlab, shortened } from "./slabs.ts";

const partsKernel: KernelSpec = { shader: "log_sum_exp", entry: "parts" };
const joinKernel: KernelSpec = { shader: "log_sum_exp", entry: "join" };
const backwardKernel: KernelSpec = { shader: "log_sum_exp", entry: "backward" };

const NEGATIVE_INFINITY_BITS = 0xff800000;

function reduced(gpu: Gpu, middle: Middle): GpuArray {
  const { x, outer, rows, inner } = shortened(gpu, middle, (piece) => reduced(gpu, piece));
  let pair: { readonly m: GpuArray; readonly s: GpuArray } | null = null;
  let left = rows;
  for (const parts of partsOf(rows)) {
    const next: { readonly m: GpuArray; readonly s: GpuArray } = {
      m: gpu.empty([outer, parts, inner]),
      s: gpu.empty([outer, parts, inner]),
    };
    const from = pair ? { part_m: pair.m, part_s: pair.s } : { x };
    const kernel = pair ? joinKernel : partsKernel;
    const params = { rows: left, parts };
    const slabs = { outer, inner, arrays: { ...from, ...next }, written: ["m", "s"] };
    eachSlab(gpu, labelOf(kernel), slabs, (part, n, width) => {
      gpu.run(kernel, part, { ...params, outer: n, inner: width }, threads(n * parts * width));
    });
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
    if (x.size === 0) return [gpu.view(dx, x.shape)];
    const slabs = { outer, inner, arrays: { x: middle.x, y_saved: y, dy, dx }, written: ["dx"] };
    eachSlab(gpu, labelOf(backwardKernel), slabs, (part, n, width) => {
      const params = { outer: n, rows, inner: width, parts: 0 };
      gpu.run(backwardKernel, part, params, threads(n * rows * width));
    });
    return [middle.x === x ? dx : movedBack(gpu, dx, x.shape, list)];
  },
});
