import { type Gpu, type GpuArray, lastOf, rowsOf, sameShape, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { rowKernel } from "./kernels.ts";
import { runRows } from "./ranges.ts";

const forwardKernel = rowKernel("cross_entropy", "forward");
const totalKernel = rowKernel("cross_entropy", "total");
const backwardKernel = rowKernel("cross_entropy", "backward");

export interface CrossEntropyAttrs {
  /** Rows with this label count neither in the loss nor in its mean. Default -100. */
  readonly ignoreIndex?: number | undefined;
  /** ε: (1-ε) nll + ε mean over classes of -log p. Default 0. */
  readonly labelSmoothing?: number | undefined;
  /** Default "mean" over the rows that count. "none": one loss per row. */
  readonly reduction?: "mean" | "sum" | "none" | undefined;
}

interface CrossEntropySaved {
  readonly [name: string]: unknown;
  readonly logits: GpuArray;
  readonly labels: GpuArray;
  readonly lse: GpuArray;
  readonly weight: GpuArray | null;
}

const MODES = { mean: 0, sum: 1, none: 2 } as const;

function paramsOf(columns: number, attrs: CrossEntropyAttrs) {
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" } = attrs;
  return { columns, ignore: ignoreIndex, smoothing: labelSmoothing, mode: MODES[reduction] };
}

/**
 * Cross-entropy of integer labels: logits [..., C], labels [...] i32 -> scalar, or [...] without reduction.
 * Saves one log-sum per row; probabilities are never stored. Labels must be checked on the host.
 */
export const crossEntropy = defineOp<readonly [GpuArray, GpuArray], CrossEntropyAttrs, CrossEntropySaved>({
  name: "crossEntropy",
  result: () => "f32",
  dtypes: ["f32", "i32"],
  shape([logits, labels], { reduction = "mean", labelSmoothing = 0 }) {
    if (logits.length < 1 || !sameShape(logits.slice(0, -1), labels)) {
      throw new ShapeError(
        `crossEntropy: labels ${showShape(labels)} do not fit logits ${showShape(logits)}`,
      );
    }
    if (lastOf(logits) === 0) throw new ShapeError(`crossEntropy: ${showShape(logits)} has no classes`);
    if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
      throw new ShapeError(`crossEntropy: labelSmoothing is ${labelSmoothing}, expected 0..1`);
    }
    return reduction === "none" ? labels : [];
  },
  forward(gpu, [logits, labels], attrs, _needs, shape) {
    const { rows, columns } = rowsOf(logits.shape);
    const loss = gpu.empty(labels.shape);
    const lse = gpu.empty([rows]);
    const { kernel, columns: groups } = forwardKernel(gpu, columns);
    const params = paramsOf(groups, attrs);
    runRows(gpu, kernel, { rows, split: { logits, labels, loss, lse }, params });
    if (attrs.reduction === "none") return { output: loss, saved: { logits, labels, lse, weight: null } };
    const y = gpu.empty(shape);
    const weight = gpu.empty([1]);
    const { kernel: total } = totalKernel(gpu, columns);
    gpu.run(total, { labels, loss_saved: loss, y, weight }, { rows, ...params }, [1, 1, 1]);
    return { output: y, saved: { logits, labels, lse, weight } };
  },
  backward: (gpu, dy, saved, attrs) => [gradient(gpu, dy, saved, attrs), null],
});

function gradient(gpu: Gpu, dy: GpuArray, saved: CrossEntropySaved, attrs: CrossEntropyAttrs): GpuArray {
  const { logits, labels, lse, weight } = saved;
  const { rows, columns } = rowsOf(logits.shape);
  const dlogits = gpu.like(logits);
  const { kernel, columns: groups } = backwardKernel(gpu, columns);
  const split = { logits, labels, lse_saved: lse, dlogits };
  // Without reduction each row has a gradient of its own.
  const perRow = attrs.reduction === "none";
  runRows(gpu, kernel, {
    rows,
    split: perRow ? { ...split, dy } : split,
    whole: perRow ? { weight_saved: weight } : { weight_saved: weight, dy },
    params: paramsOf(groups, attrs),
  });
  return dlogits;
}
