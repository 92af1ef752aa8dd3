import {
  expectShape,
  type Gpu,
  type GpuArray,
  lastOf,
  rowsOf,
  type Shape,
  showShape,
} from "../array/index.ts";
import { grid1d, ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { columnKernel, rowKernel } from "./kernels.ts";
import { runRows, threads } from "./ranges.ts";
import { sumMiddle } from "./reduce.ts";

/** Rows that share the loads of weight and bias on software adapters. */
const TOGETHER = 4;
const forwardKernel = rowKernel("layer_norm", "forward", {}, TOGETHER);
const forwardSumKernel = rowKernel("layer_norm", "forward_sum", { seen: "total[i]" }, TOGETHER);
const backwardXKernel = rowKernel("layer_norm", "backward_x", {}, TOGETHER);
/** Columns of a thread of the weight gradient on software adapters, which have enough threads at any size. */
const COLUMNS = 4;
const backwardWeightKernels = {
  hardware: columnKernel("layer_norm", "backward_weight"),
  software: columnKernel("layer_norm", "backward_weight", { COLUMNS: `${COLUMNS}u` }),
};
/** Rows that one thread of the weight gradient adds up. */
const BLOCK = 32;

interface LayerNormSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray | null;
  readonly weight: GpuArray | null;
  readonly mean: GpuArray | null;
  readonly rstd: GpuArray | null;
  readonly eps: number;
}

/**
 * Layer normalisation over the last dimension: y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(var + eps).
 * x [..., C], weight [C], bias [C] -> [..., C]. Saves x, mean and rstd [rows], weight only where x needs a
 * gradient, and nothing for a bias alone.
 */
export const layerNorm = defineOp<
  readonly [GpuArray, GpuArray, GpuArray],
  { readonly eps: number },
  LayerNormSaved
>({
  name: "layerNorm",
  shape: ([x, weight, bias]) => checked("layerNorm", x, weight, bias),
  forward(gpu, [x, weight, bias], { eps }, [needsX, needsWeight]) {
    const { rows, columns } = rowsOf(x.shape);
    const y = gpu.like(x);
    const [mean, rstd] = [gpu.empty([rows]), gpu.empty([rows])];
    const { kernel, columns: groups, together } = forwardKernel(gpu, columns);
    const params = { columns: groups, eps, block: 0, parts: 0 };
    const grid = gridOf(together);
    runRows(gpu, kernel, { rows, split: { x, y, mean, rstd }, whole: { weight, bias }, params, grid });
    return { output: y, saved: savedOf({ x, mean, rstd, eps }, weight, needsX, needsWeight) };
  },
  backward: (gpu, dy, saved, _attrs, needs) => gradients(gpu, dy, saved, needs, 1),
});

/**
 * layerNorm(x + residual), the end of a sub-layer that normalises its sum (BERT, RoBERTa), in one kernel.
 * x and residual [..., C], weight [C], bias [C] -> [..., C]. Saves the sum in the place of x; its gradient is that of both.
 */
export const addLayerNorm = defineOp<
  readonly [GpuArray, GpuArray, GpuArray, GpuArray],
  { readonly eps: number },
  LayerNormSaved
>({
  name: "addLayerNorm",
  shape([x, residual, weight, bias]) {
    expectShape("addLayerNorm", { residual }, x);
    return checked("addLayerNorm", x, weight, bias);
  },
  forward(gpu, [x, residual, weight, bias], { eps }, [needsX, needsResidual, needsWeight]) {
    const { rows, columns } = rowsOf(x.shape);
    const [y, total] = [gpu.like(x), gpu.like(x)];
    const [mean, rstd] = [gpu.empty([rows]), gpu.empty([rows])];
    const { kernel, columns: groups, together } = forwardSumKernel(gpu, columns);
    const params = { columns: groups, eps, block: 0, parts: 0 };
    const split = { x, residual, total, y, mean, rstd };
    runRows(gpu, kernel, { rows, split, whole: { weight, bias }, params, grid: gridOf(together) });
    const needsSum = needsX || needsResidual;
    return { output: y, saved: savedOf({ x: total, mean, rstd, eps }, weight, needsSum, needsWeight) };
  },
  backward(gpu, dy, saved, _attrs, [needsX, needsResidual, needsWeight, needsBias]) {
    const needs = [needsX || needsResidual, needsWeight, needsBias];
    const [dx = null, dweight = null, dbias = null] = gradients(gpu, dy, saved, needs, 2);
    return [needsX ? dx : null, needsResidual ? dx : null, dweight, dbias];
  },
});

/** A workgroup for every so many rows. */
const gridOf = (together: number) => (rows: number) => grid1d(Math.ceil(rows / together));

function checked(name: string, x: Shape, weight: Shape, bias: Shape): Shape {
  if (x.length === 0 || lastOf(x) === 0)
    throw new ShapeError(`${name}: ${showShape(x)} has no last dimension to normalise`);
  expectShape(name, { weight, bias }, [lastOf(x)]);
  return x;
}

function savedOf(
  { x, mean, rstd, eps }: Normalised,
  weight: GpuArray,
  needsX = false,
  needsWeight = false,
): LayerNormSaved {
  const own = needsX || needsWeight ? { x, mean, rstd } : { x: null, mean: null, rstd: null };
  return { ...own, weight: needsX ? weight : null, eps };
}

/** Of what is normalised, the weight (input `place` of the op) and the bias. */
function gradients(
  gpu: Gpu,
  dy: GpuArray,
  { x, weight, mean, rstd, eps }: LayerNormSaved,
  [needsX, needsWeight, needsBias]: readonly (boolean | undefined)[],
  place: number,
): (GpuArray | null)[] {
  const { rows, columns } = rowsOf(dy.shape);
  const saved = x && mean && rstd && { x, mean, rstd, eps };
  const dx = saved && weight && needsX ? gradientOfX(gpu, dy, weight, saved) : null;
  const dweight = saved && needsWeight ? gpu.emptyFor(place, [columns]) : null;
  const dbias = needsBias ? gpu.emptyFor(place + 1, [columns]) : null;
  if (saved && dweight) gradientOfWeight(gpu, dy, saved, dweight, dbias);
  else if (dbias) sumMiddle(gpu, dy, 1, rows, columns, { into: dbias, firstBlock: BLOCK });
  return [dx, dweight, dbias];
}

interface Normalised {
  readonly x: GpuArray;
  readonly mean: GpuArray;
  readonly rstd: GpuArray;
  readonly eps: number;
}

function gradientOfX(gpu: Gpu, dy: GpuArray, weight: GpuArray, { x, mean, rstd, eps }: Normalised): GpuArray {
  const dx = gpu.like(x);
  const { rows, columns } = rowsOf(x.shape);
  const { kernel, columns: groups, together } = backwardXKernel(gpu, columns);
  runRows(gpu, kernel, {
    rows,
    split: { x, dy, mean_saved: mean, rstd_saved: rstd, dx },
    whole: { weight },
    params: { columns: groups, eps, block: 0, parts: 0 },
    grid: gridOf(together),
  });
  return dx;
}

/** Writes dweight, and dbias where it is wanted, which the same kernel finds. */
function gradientOfWeight(
  gpu: Gpu,
  dy: GpuArray,
  { x, mean, rstd, eps }: Normalised,
  dweight: GpuArray,
  dbias: GpuArray | null,
): void {
  const { rows, columns } = rowsOf(x.shape);
  const parts = Math.ceil(rows / BLOCK);
  const parted = { dweight: gpu.empty([parts, columns]), dbias: gpu.empty([parts, columns]) };
  const { kernel, columns: groups } =
    backwardWeightKernels[gpu.isSoftware ? "software" : "hardware"](columns);
  const across = Math.ceil(groups / (gpu.isSoftware ? COLUMNS : 1));
  const length = BLOCK * columns;
  runRows(gpu, kernel, {
    rows: parts,
    split: { x, dy, mean_saved: mean, rstd_saved: rstd, ...parted },
    lengths: { x: length, dy: length, mean_saved: BLOCK, rstd_saved: BLOCK },
    params: (first, n) => ({
      rows: Math.min(n * BLOCK, rows - first * BLOCK),
      columns: groups,
      eps,
      block: BLOCK,
    }),
    count: "parts",
    grid: (n) => threads(n * across),
  });
  sumMiddle(gpu, parted.dweight, 1, parts, columns, { into: dweight });
  if (dbias) sumMiddle(gpu, parted.dbias, 1, parts, columns, { into: dbias });
}
