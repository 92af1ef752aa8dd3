import { type GpuArray, lastOf, rowsOf, sameShape, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { rowKernel } from "./kernels.ts";
import { runRows } from "./ranges.ts";

const forwardKernel = rowKernel("symmetric_kl", "forward");
const meanKernel = rowKernel("symmetric_kl", "mean");
const backwardKernel = rowKernel("symmetric_kl", "backward");

export interface SymmetricKlAttrs {
  /** "detached" (default): the target side of each divergence carries no gradient, as the authors' code has it. "full": the formula as printed. */
  readonly gradient?: "detached" | "full" | undefined;
  /** "mean" over rows (default), or "none": one divergence for each row. */
  readonly reduction?: "mean" | "none" | undefined;
}

interface SymmetricKlSaved {
  readonly [name: string]: unknown;
  readonly a: GpuArray;
  readonly b: GpuArray;
  readonly lse: GpuArray;
}

/**
 * ½ [KL(q ‖ p) + KL(p ‖ q)] of two passes, p = softmax(a), q = softmax(b), summed over classes, mean over rows.
 * a, b [..., C] -> scalar, or [...] without the mean. Paper: section 3.2.
 */
export const symmetricKl = defineOp<readonly [GpuArray, GpuArray], SymmetricKlAttrs, SymmetricKlSaved>({
  name: "symmetricKl",
  result: () => "f32",
  shape([a, b], { reduction = "mean" }) {
    if (!sameShape(a, b) || a.length < 1)
      throw new ShapeError(`symmetricKl: ${showShape(a)} and ${showShape(b)} differ`);
    if (lastOf(a) === 0) throw new ShapeError(`symmetricKl: ${showShape(a)} has no classes`);
    if (reduction !== "mean" && reduction !== "none")
      throw new ShapeError(`symmetricKl: reduction "${String(reduction)}", expected mean or none`);
    return reduction === "none" ? a.slice(0, -1) : [];
  },
  forward(gpu, [a, b], attrs, _needs, shape) {
    const { rows, columns } = rowsOf(a.shape);
    const isEach = attrs.reduction === "none";
    const loss = gpu.empty(isEach ? shape : [rows]);
    const lse = gpu.empty([rows, 2]);
    const { kernel, columns: groups } = forwardKernel(gpu, columns);
    const params = paramsOf(groups, rows, attrs);
    runRows(gpu, kernel, { rows, split: { a, b, loss, lse }, params });
    if (isEach) return { output: loss, saved: { a, b, lse } };
    const y = gpu.empty([]);
    gpu.run(meanKernel(gpu, columns).kernel, { loss_saved: loss, y }, { rows, ...params }, [1, 1, 1]);
    return { output: y, saved: { a, b, lse } };
  },
  backward(gpu, dy, { a, b, lse }, attrs, [needsA, needsB]) {
    const { rows, columns } = rowsOf(a.shape);
    const da = gpu.like(a);
    const db = gpu.like(b);
    const { kernel, columns: groups } = backwardKernel(gpu, columns);
    const params = paramsOf(groups, rows, attrs);
    const split = { a, b, lse_saved: lse, da, db };
    // One gradient for all rows, or one for each.
    const run = attrs.reduction === "none" ? { split: { ...split, dy } } : { split, whole: { dy } };
    runRows(gpu, kernel, { rows, params, ...run });
    return [needsA ? da : null, needsB ? db : null];
  },
});

function paramsOf(columns: number, rows: number, { gradient, reduction }: SymmetricKlAttrs) {
  return { columns, full: gradient === "full" ? 1 : 0, all: rows, each: reduction === "none" ? 1 : 0 };
}
