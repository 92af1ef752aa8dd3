import { type Gpu, type GpuArray, normaliseAxis } from "../array/index.ts";
import { defineOp } from "./define-op.ts";
import { copyOf } from "./kernels.ts";

export interface FlipAttrs {
  readonly axes: readonly number[];
}

/** x with the order of some dimensions reversed: a copy. x of any type. Saves nothing. The gradient is flipped back. */
export const flip = defineOp<readonly [GpuArray], FlipAttrs, Record<string, never>>({
  name: "flip",
  dtypes: "any",
  half: { inputs: [0] },
  strided: true,
  shape([x], { axes }) {
    for (const axis of axes) normaliseAxis("flip", axis, x.length);
    return x;
  },
  forward: (gpu, [x], { axes }) => ({ output: flipped(gpu, x, axes), saved: {} }),
  backward: (gpu, dy, _saved, { axes }) => [flipped(gpu, dy, axes)],
});

/** A copy through a view that begins at the last element and steps back. Only copies take such views. */
function flipped(gpu: Gpu, x: GpuArray, axes: readonly number[]): GpuArray {
  const reversed = new Set(axes.map((axis) => normaliseAxis("flip", axis, x.shape.length)));
  let { offset } = x;
  const strides = x.strides.map((stride, d) => {
    if (!reversed.has(d)) return stride;
    offset += Math.max((x.shape[d] as number) - 1, 0) * stride;
    return -stride;
  });
  return copyOf(gpu, gpu.view(x, x.shape, offset, strides));
}
