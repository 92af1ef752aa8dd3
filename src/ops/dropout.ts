import { type Gpu, type GpuArray, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { type Draw, drawParams, dropThreshold } from "./draw.ts";
import { runRows, threads } from "./ranges.ts";

const kernel: KernelSpec = { shader: "dropout", entry: "forward" };

export interface DropoutAttrs {
  /** Share of elements that is dropped, 0 <= p < 1. */
  readonly p: number;
  readonly draw: Draw;
}

interface DropoutSaved {
  readonly [name: string]: unknown;
  readonly clock: GpuArray;
}

function apply(gpu: Gpu, x: GpuArray, clock: GpuArray, { p, draw }: DropoutAttrs): GpuArray {
  const y = gpu.like(x);
  if (x.size === 0) return y;
  const columns = x.size / (x.shape[0] as number);
  // Numbers are drawn in groups of four that begin anew with each example.
  const group = (element: number): number =>
    Math.floor(element / columns) * Math.ceil(columns / 4) + Math.floor((element % columns) / 4);
  const params = { columns, threshold: dropThreshold(p), scale: 1 / (1 - p), ...drawParams(draw) };
  runRows(gpu, kernel, {
    rows: x.size,
    split: { x, y },
    whole: { clock },
    params: (first) => ({ first, ...params }),
    count: "n",
    grid: (n, first) => threads(group(first + n - 1) - group(first) + 1),
  });
  return y;
}

/**
 * y = x keep / (1 - p). x [rows, ...] -> same; a row is one example of one pass. Saves the clock alone: the backward
 * pass draws the same numbers again.
 */
export const dropout = defineOp<readonly [GpuArray], DropoutAttrs, DropoutSaved>({
  name: "dropout",
  shape([x], { p, draw }) {
    if (!(p >= 0 && p < 1)) throw new ShapeError(`dropout: p is ${p}, expected 0 <= p < 1`);
    if (x.length < 1) throw new ShapeError(`dropout: ${showShape(x)} has no rows`);
    if (!draw) throw new ShapeError("dropout: no draw; pass one: { p, draw: drawOf(source, name) }");
    return x;
  },
  forward: (gpu, [x], attrs) => ({
    output: apply(gpu, x, attrs.draw.clock, attrs),
    saved: { clock: attrs.draw.clock },
  }),
  backward: (gpu, dy, { clock }, attrs) => [apply(gpu, dy, clock, attrs)],
});
