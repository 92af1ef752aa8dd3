import { type GpuArray, rowsOf, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp, type Op } from "./define-op.ts";
import { rowKernel } from "./kernels.ts";
import { runRows } from "./ranges.ts";

type SoftmaxOp = Op<readonly [GpuArray], object, { readonly y: GpuArray }>;

function softmaxOp(name: string, forwardEntry: string, backwardEntry: string): SoftmaxOp {
  const forward = rowKernel("softmax", forwardEntry);
  const backward = rowKernel("softmax", backwardEntry);
  return defineOp<readonly [GpuArray], object, { readonly y: GpuArray }>({
    name,
    shape([x]) {
      if (x.length === 0 || x.at(-1) === 0)
        throw new ShapeError(`${name}: ${showShape(x)} has no last dimension to sum over`);
      return x;
    },
    forward(gpu, [x]) {
      const y = gpu.like(x);
      const { rows, columns } = rowsOf(x.shape);
      const { kernel, columns: groups } = forward(gpu, columns);
      runRows(gpu, kernel, { rows, split: { x, y }, params: { columns: groups } });
      return { output: y, saved: { y } };
    },
    backward(gpu, dy, { y }) {
      const dx = gpu.like(dy);
      const { rows, columns } = rowsOf(dy.shape);
      const { kernel, columns: groups } = backward(gpu, columns);
      runRows(gpu, kernel, { rows, split: { y_saved: y, dy, dx }, params: { columns: groups } });
      return [dx];
    },
  });
}

/** exp(x) / Σ exp(x) over the last dimension: x [..., C] -> [..., C]. Saves y. */
export const softmax = softmaxOp("softmax", "forward", "backward");

/** (x - max) - log Σ exp(x - max) over the last dimension: x [..., C] -> [..., C]. Saves y. */
export const logSoftmax = softmaxOp("logSoftmax", "forward_log", "backward_log");
