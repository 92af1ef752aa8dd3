import { expectShape, type Gpu, type GpuArray, lastOf, rowsOf, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { columnKernel, rowKernel } from "./kernels.ts";
import { runRows, threads } from "./ranges.ts";
import { sumMiddle } from "./reduce.ts";

const forwardKernel = rowKernel("layer_norm", "forward");
const backwardXKernel = rowKernel("layer_norm", "backward_x");
const backwardWeightKernel = columnKernel("layer_norm", "backward_weight");
/** Rows that one thread of the weight gradient adds up. */
const BLOCK = 32;

interface LayerNormSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray;
  readonly weight: GpuArray;
  readonly mean: GpuArray;
  readonly rstd: GpuArray;
  readonly eps: number;
}

/**
 * Layer normalisation over the last dimension: y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(var + eps).
 * x [..., C], weight [C], bias [C] -> [..., C]. Saves x, mean and rstd [rows].
 */
export const layerNorm = defineOp<
  readonly [GpuArray, GpuArray, GpuArray],
  { readonly eps: number },
  LayerNormSaved
>({
  name: "layerNorm",
  shape([x, weight, bias]) {
    if (x.length === 0 || lastOf(x) === 0)
      throw new ShapeError(`layerNorm: ${showShape(x)} has no last dimension to normalise`);
    expectShape("layerNorm", { weight, bias }, [lastOf(x)]);
    return x;
  },
  forward(gpu, [x, weight, bias], { eps }) {
    const { rows, columns } = rowsOf(x.shape);
    const y = gpu.like(x);
    const mean = gpu.empty([rows]);
    const rstd = gpu.empty([rows]);
    const { kernel, columns: groups } = forwardKernel(gpu, columns);
    const params = { columns: groups, eps, block: 0, parts: 0 };
    runRows(gpu, kernel, { rows, split: { x, y, mean, rstd }, whole: { weight, bias }, params });
    return { output: y, saved: { x, weight, mean, rstd, eps } };
  },
  backward(gpu, dy, saved, _attrs, [needsX, needsWeight, needsBias]) {
    const dx = needsX ? gradientOfX(gpu, dy, saved) : null;
    if (!needsWeight && !needsBias) return [dx, null, null];
    const [dweight, dbias] = gradientOfWeight(gpu, dy, saved);
    return [dx, needsWeight ? dweight : null, needsBias ? dbias : null];
  },
});

function gradientOfX(gpu: Gpu, dy: GpuArray, { x, weight, mean, rstd, eps }: LayerNormSaved): GpuArray {
  const dx = gpu.like(x);
  const { rows, columns } = rowsOf(x.shape);
  const { kernel, columns: groups } = backwardXKernel(gpu, columns);
  runRows(gpu, kernel, {
    rows,
    split: { x, dy, mean_saved: mean, rstd_saved: rstd, dx },
    whole: { weight },
    params: { columns: groups, eps, block: 0, parts: 0 },
  });
  return dx;
}

function gradientOfWeight(
  gpu: Gpu,
  dy: GpuArray,
  { x, mean, rstd, eps }: LayerNormSaved,
): [GpuArray, GpuArray] {
  const { rows, columns } = rowsOf(x.shape);
  const parts = Math.ceil(rows / BLOCK);
  const dweight = gpu.empty([parts, columns]);
  const dbias = gpu.empty([parts, columns]);
  const { kernel, columns: groups } = backwardWeightKernel(columns);
  const length = BLOCK * columns;
  runRows(gpu, kernel, {
    rows: parts,
    split: { x, dy, mean_saved: mean, rstd_saved: rstd, dweight, dbias },
    lengths: { x: length, dy: length, mean_saved: BLOCK, rstd_saved: BLOCK },
    params: (first, n) => ({
      rows: Math.min(n * BLOCK, rows - first * BLOCK),
      columns: groups,
      eps,
      block: BLOCK,
    }),
    count: "parts",
    grid: (n) => threads(n * groups),
  });
  const total = (parted: GpuArray): GpuArray =>
    gpu.view(sumMiddle(gpu, parted, 1, parts, columns), [columns]);
  return [total(dweight), total(dbias)];
}
