import { type GpuArray, MAX_RANK, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { runRows, threads } from "./ranges.ts";

const kernel: KernelSpec = { shader: "one_hot", entry: "forward" };

export interface OneHotAttrs {
  readonly classes: number;
}

/**
 * 1 at each index, else 0: ids [...] i32 -> [..., classes] f32. An id out of range gives a row of NaN. There is no
 * derivative.
 */
export const oneHot = defineOp<readonly [GpuArray], OneHotAttrs, Record<string, never>>({
  name: "oneHot",
  dtypes: ["i32"],
  result: () => "f32",
  shape([ids], { classes }) {
    if (!Number.isInteger(classes) || classes < 0)
      throw new ShapeError(`oneHot: ${classes} is no number of classes`);
    if (ids.length === MAX_RANK)
      throw new ShapeError(
        `oneHot: ids ${showShape(ids)} leave no dimension for the classes (of ${MAX_RANK})`,
      );
    return [...ids, classes];
  },
  forward(gpu, [ids], { classes }, _needs, shape) {
    const y = gpu.empty(shape);
    if (classes === 0) return { output: y, saved: {} };
    const grid = (rows: number) => threads(rows * classes);
    runRows(gpu, kernel, { rows: ids.size, split: { ids, y }, params: { classes }, grid });
    return { output: y, saved: {} };
  },
});
