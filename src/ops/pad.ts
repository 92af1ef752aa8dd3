import { type GpuArray, type Shape, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { copyInto, fill } from "./kernels.ts";
import { wordOf } from "./words.ts";

export interface PadAttrs {
  /** Elements before and after, for each dimension in order. */
  readonly widths: readonly (readonly [before: number, after: number])[];
  /** What they hold. Default 0. */
  readonly value?: number | undefined;
}

/**
 * x inside a border of a constant: dimension d has widths[d] more elements before and after. x of any type. Saves
 * nothing but a shape. The gradient is that of the inside: a view.
 */
export const pad = defineOp<readonly [GpuArray], PadAttrs, { readonly shape: Shape }>({
  name: "pad",
  dtypes: "any",
  strided: true,
  shape([x], { widths }) {
    const isWidth = (n: number): boolean => Number.isInteger(n) && n >= 0;
    if (widths.length !== x.length || !widths.every(([before, after]) => isWidth(before) && isWidth(after))) {
      const given = widths.map(([before, after]) => `[${before}, ${after}]`).join(", ");
      throw new ShapeError(
        `pad: widths [${given}] are not one [before, after] of 0 or more for each dimension of ${showShape(x)}`,
      );
    }
    return x.map((n, d) => n + (widths[d]?.[0] ?? 0) + (widths[d]?.[1] ?? 0));
  },
  forward(gpu, [x], { widths, value = 0 }, _needs, shape) {
    const output = gpu.empty(shape, x.dtype);
    fill(gpu, output, wordOf("pad", x.dtype, value));
    copyInto(gpu, x, gpu.view(output, x.shape, insideOf(output, widths), output.strides));
    return { output, saved: { shape: x.shape } };
  },
  backward: (gpu, dy, { shape }, { widths }) => [gpu.view(dy, shape, insideOf(dy, widths), dy.strides)],
});

/** Offset of the first element that is not border. */
function insideOf({ offset, strides }: GpuArray, widths: PadAttrs["widths"]): number {
  return widths.reduce((sum, [before], d) => sum + before * (strides[d] as number), offset);
}
