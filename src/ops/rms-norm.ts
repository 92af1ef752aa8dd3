import { expectShape, type Gpu, type GpuArray, lastOf, rowsOf, showShape } from "../array/index.ts";
import { grid1d, ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { columnKernel, rowKernel, threads } from "./kernels.ts";
import { sumMiddle } from "./reduce.ts";

const forwardKernel = rowKernel("rms_norm", "forward");
const backwardXKernel = rowKernel("rms_norm", "backward_x");
const backwardWeightKernel = columnKernel("rms_norm", "backward_weight");
/** Rows that one thread of the weight gradient adds up. */
const BLOCK = 32;

interface RmsNormSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray;
  readonly weight: GpuArray;
  readonly rstd: GpuArray;
}

/**
 * Normalisation by the root mean square over the last dimension: y = x rstd weight, rstd = 1 / sqrt(mean x² + eps).
 * x [..., C], weight [C] -> [..., C]. Saves x, weight and rstd [rows]. Squares overflow from 1.8e19 on: y is 0 there.
 * Zhang and Sennrich 2019.
 */
export const rmsNorm = defineOp<readonly [GpuArray, GpuArray], { readonly eps: number }, RmsNormSaved>({
  name: "rmsNorm",
  shape([x, weight], { eps }) {
    if (x.length === 0 || lastOf(x) === 0)
      throw new ShapeError(`rmsNorm: ${showShape(x)} has no last dimension to normalise`);
    expectShape("rmsNorm", { weight }, [lastOf(x)]);
    if (!(eps >= 0)) throw new ShapeError(`rmsNorm: eps is ${eps}, expected 0 or more`);
    return x;
  },
  forward(gpu, [x, weight], { eps }) {
    const { rows, columns } = rowsOf(x.shape);
    const y = gpu.like(x);
    const rstd = gpu.empty([rows]);
    const { kernel, columns: groups } = forwardKernel(gpu, columns);
    const params = { rows, columns: groups, eps, block: 0, parts: 0 };
    if (rows > 0) gpu.run(kernel, { x, weight, y, rstd }, params, grid1d(rows));
    return { output: y, saved: { x, weight, rstd } };
  },
  backward: (gpu, dy, saved, _attrs, [needsX, needsWeight]) => [
    needsX ? gradientOfX(gpu, dy, saved) : null,
    needsWeight ? gradientOfWeight(gpu, dy, saved) : null,
  ],
});

function gradientOfX(gpu: Gpu, dy: GpuArray, { x, weight, rstd }: RmsNormSaved): GpuArray {
  const dx = gpu.like(x);
  const { rows, columns } = rowsOf(x.shape);
  const { kernel, columns: groups } = backwardXKernel(gpu, columns);
  const params = { rows, columns: groups, eps: 0, block: 0, parts: 0 };
  if (rows > 0) gpu.run(kernel, { x, weight, dy, rstd_saved: rstd, dx }, params, grid1d(rows));
  return dx;
}

function gradientOfWeight(gpu: Gpu, dy: GpuArray, { x, rstd }: RmsNormSaved): GpuArray {
  const { rows, columns } = rowsOf(x.shape);
  const parts = Math.ceil(rows / BLOCK);
  const dweight = gpu.empty([parts, columns]);
  const { kernel, columns: groups } = backwardWeightKernel(columns);
  const params = { rows, columns: groups, eps: 0, block: BLOCK, parts };
  gpu.run(kernel, { x, dy, rstd_saved: rstd, dweight }, params, threads(parts * groups));
  return gpu.view(sumMiddle(gpu, dweight, 1, parts, columns), [columns]);
}
