import { expectShape, type Gpu, type GpuArray, lastOf, rowsOf, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { columnKernel, rowKernel } from "./kernels.ts";
import { runRows, threads } from "./ranges.ts";
import { sumMiddle } from "./reduce.ts";

const forwardKernel = rowKernel("rms_norm", "forward");
const backwardXKernel = rowKernel("rms_norm", "backward_x");
const backwardWeightKernel = columnKernel("rms_norm", "backward_weight");
/** Rows that one thread of the weight gradient adds up. */
const BLOCK = 32;

interface RmsNormSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray;
  readonly weight: GpuArray | null;
  readonly rstd: GpuArray;
}

/**
 * Normalisation by the root mean square over the last dimension: y = x rstd weight, rstd = 1 / sqrt(mean x² + eps).
 * x [..., C], weight [C] -> [..., C]. Saves x and rstd [rows], weight only where x needs a
 * gradient. Squares overflow from 1.8e19 on: y is 0 there.
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
  forward(gpu, [x, weight], { eps }, [needsX]) {
    const { rows, columns } = rowsOf(x.shape);
    const y = gpu.like(x);
    const rstd = gpu.empty([rows]);
    const { kernel, columns: groups } = forwardKernel(gpu, columns);
    const params = { columns: groups, eps, block: 0, parts: 0 };
    runRows(gpu, kernel, { rows, split: { x, y, rstd }, whole: { weight }, params });
    return { output: y, saved: { x, weight: needsX ? weight : null, rstd } };
  },
  backward(gpu, dy, { x, weight, rstd }, _attrs, [needsX, needsWeight]) {
    const dx = weight && needsX ? gradientOfX(gpu, dy, { x, weight, rstd }) : null;
    const dweight = needsWeight ? gpu.emptyFor(1, [dy.shape.at(-1) as number]) : null;
    if (dweight) gradientOfWeight(gpu, dy, x, rstd, dweight);
    return [dx, dweight];
  },
});

interface Normalised {
  readonly x: GpuArray;
  readonly weight: GpuArray;
  readonly rstd: GpuArray;
}

function gradientOfX(gpu: Gpu, dy: GpuArray, { x, weight, rstd }: Normalised): GpuArray {
  const dx = gpu.like(x);
  const { rows, columns } = rowsOf(x.shape);
  const { kernel, columns: groups } = backwardXKernel(gpu, columns);
  runRows(gpu, kernel, {
    rows,
    split: { x, dy, rstd_saved: rstd, dx },
    whole: { weight },
    params: { columns: groups, eps: 0, block: 0, parts: 0 },
  });
  return dx;
}

function gradientOfWeight(gpu: Gpu, dy: GpuArray, x: GpuArray, rstd: GpuArray, dweight: GpuArray): void {
  const { rows, columns } = rowsOf(x.shape);
  const parts = Math.ceil(rows / BLOCK);
  const parted = gpu.empty([parts, columns]);
  const { kernel, columns: groups } = backwardWeightKernel(columns);
  const length = BLOCK * columns;
  runRows(gpu, kernel, {
    rows: parts,
    split: { x, dy, rstd_saved: rstd, dweight: parted },
    lengths: { x: length, dy: length, rstd_saved: BLOCK },
    params: (first, n) => ({
      rows: Math.min(n * BLOCK, rows - first * BLOCK),
      columns: groups,
      eps: 0,
      block: BLOCK,
    }),
    count: "parts",
    grid: (n) => threads(n * groups),
  });
  sumMiddle(gpu, parted, 1, parts, columns, { into: dweight });
}
