import { type Gpu, type GpuArray, rowsOf, type Shape, sameShape, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { columnKernel, contiguous, type RowKernel, rowKernel } from "./kernels.ts";
import { type Arrays, runRows, threads } from "./ranges.ts";

const WEIGHTED = {
  class_weight: "class_weights[c]",
  label_weight: "element(class_weights[label / WIDTH], label % WIDTH)",
  all_weights: "class_sum_saved[0]",
};

/** Kernels of one entry: without class weights, and with them. */
function inBothWays<K>(make: (constants: Readonly<Record<string, string>>) => K): { plain: K; weighted: K } {
  return { plain: make({}), weighted: make(WEIGHTED) };
}

const forwardKernel = inBothWays((constants) => rowKernel("cross_entropy", "forward", constants));
const totalKernel = inBothWays((constants) => rowKernel("cross_entropy", "total", constants));
const backwardKernel = inBothWays((constants) => rowKernel("cross_entropy", "backward", constants));
const forwardNllKernel = inBothWays((constants) => columnKernel("cross_entropy", "forward_nll", constants));
const backwardNllKernel = inBothWays((constants) => columnKernel("cross_entropy", "backward_nll", constants));

export type Reduction = "mean" | "sum" | "none";

export interface NllAttrs {
  /** Rows with this label count neither in the loss nor in its mean. Default -100. */
  readonly ignoreIndex?: number | undefined;
  /** f32 [C]: the weight of each class. Default 1. */
  readonly classWeights?: GpuArray | null | undefined;
  /** Default "mean": Σ loss / Σ weight of the labels of the rows that count. "none": one loss per row. */
  readonly reduction?: Reduction | undefined;
}

export interface CrossEntropyAttrs extends NllAttrs {
  /** ε: (1-ε) w[label] nll + ε mean over classes of -w log p. Default 0. */
  readonly labelSmoothing?: number | undefined;
}

interface NllSaved {
  readonly [name: string]: unknown;
  readonly labels: GpuArray;
  readonly weight: GpuArray | null;
  readonly classWeights: GpuArray | null;
}

interface CrossEntropySaved extends NllSaved {
  readonly logits: GpuArray;
  readonly lse: GpuArray;
  readonly classSum: GpuArray;
}

const MODES = { mean: 0, sum: 1, none: 2 } as const;

function paramsOf(columns: number, attrs: CrossEntropyAttrs) {
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" } = attrs;
  return { columns, ignore: ignoreIndex, smoothing: labelSmoothing, mode: MODES[reduction] };
}

/** PyTorch has the classes in dimension 1, [B, C, T], where this has them last. */
function orderHint([batch, _classes, ...places]: Shape, labels: Shape): string {
  if (batch === undefined || places.length === 0 || !sameShape([batch, ...places], labels)) return "";
  const order = [0, ...places.map((_, i) => i + 2), 1];
  return `; classes come last: permute(${order.join(", ")})`;
}

/** The rule that both losses share. Gives the output's shape. */
function lossShape(op: string, logits: Shape, labels: Shape, attrs: NllAttrs): Shape {
  const { classWeights: weights, reduction = "mean" } = attrs;
  if (logits.length < 1 || !sameShape(logits.slice(0, -1), labels))
    throw new ShapeError(
      `${op}: labels ${showShape(labels)} do not fit logits ${showShape(logits)}${orderHint(logits, labels)}`,
    );
  const classes = logits.at(-1) as number;
  if (classes === 0) throw new ShapeError(`${op}: ${showShape(logits)} has no classes`);
  if (weights && (!sameShape(weights.shape, [classes]) || weights.dtype !== "f32")) {
    throw new ShapeError(
      `${op}: class weights ${weights.dtype} ${showShape(weights.shape)}, expected f32 [${classes}]`,
    );
  }
  if (!(reduction in MODES))
    throw new ShapeError(`${op}: reduction "${reduction}", expected mean, sum or none`);
  return reduction === "none" ? labels : [];
}

/**
 * Cross-entropy of integer labels, as PyTorch has it: logits [..., C], labels [...] i32 -> scalar, or [...] without
 * reduction. Saves logits and one log-sum per row; probabilities are never stored. The mean over no row that counts is
 * NaN. Labels are not known on the host: one that is neither a class nor ignored makes the loss NaN. No gradient of
 * class weights.
 */
export const crossEntropy = defineOp<readonly [GpuArray, GpuArray], CrossEntropyAttrs, CrossEntropySaved>({
  name: "crossEntropy",
  result: () => "f32",
  dtypes: ["f32", "i32"],
  shape([logits, labels], attrs) {
    const { labelSmoothing = 0 } = attrs;
    if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
      throw new ShapeError(`crossEntropy: labelSmoothing is ${labelSmoothing}, expected 0..1`);
    return lossShape("crossEntropy", logits, labels, attrs);
  },
  forward(gpu, [logits, labels], attrs) {
    const { rows, columns } = rowsOf(logits.shape);
    const classWeights = weightsOf(gpu, attrs);
    const loss = gpu.empty(labels.shape);
    const lse = gpu.empty([rows]);
    const classSum = gpu.empty([1]);
    const { kernel, columns: groups } = variant(forwardKernel, classWeights)(gpu, columns);
    runRows(gpu, kernel, {
      rows,
      split: { logits, labels, loss, lse },
      whole: { class_sum: classSum, ...bound(classWeights) },
      params: paramsOf(groups, attrs),
    });
    const { output, weight } = reduced(gpu, loss, labels, classWeights, attrs, columns);
    return { output, saved: { logits, labels, lse, weight, classWeights, classSum } };
  },
  backward: (gpu, dy, saved, attrs) => [gradient(gpu, dy, saved, attrs), null],
});

/**
 * -w[label] logp[label]: the cross-entropy of log-probabilities. logp [..., C], labels [...] i32 -> scalar, or [...]
 * without reduction; rows as in crossEntropy. Saves the labels.
 */
export const nllLoss = defineOp<
  readonly [GpuArray, GpuArray],
  NllAttrs,
  NllSaved & { readonly shape: Shape }
>({
  name: "nllLoss",
  result: () => "f32",
  dtypes: ["f32", "i32"],
  shape: ([logp, labels], attrs) => lossShape("nllLoss", logp, labels, attrs),
  forward(gpu, [logp, labels], attrs) {
    const { rows, columns } = rowsOf(logp.shape);
    const classWeights = weightsOf(gpu, attrs);
    const loss = gpu.empty(labels.shape);
    const { kernel, columns: groups } = variant(forwardNllKernel, classWeights)(columns);
    runRows(gpu, kernel, {
      rows,
      split: { logits: logp, labels, loss },
      whole: bound(classWeights),
      params: paramsOf(groups, attrs),
      grid: threads,
    });
    const { output, weight } = reduced(gpu, loss, labels, classWeights, attrs, columns);
    return { output, saved: { labels, weight, classWeights, shape: logp.shape } };
  },
  backward(gpu, dy, { labels, weight, classWeights, shape }, attrs) {
    const { rows, columns } = rowsOf(shape);
    const dlogits = gpu.empty(shape);
    const { kernel, columns: groups } = variant(backwardNllKernel, classWeights)(columns);
    const { split, whole } = gradientOfLoss(dy, weight, attrs);
    runRows(gpu, kernel, {
      rows,
      split: { labels, dlogits, ...split },
      whole: { ...bound(classWeights), ...whole },
      params: paramsOf(groups, attrs),
      grid: (n) => threads(n * groups),
    });
    return [dlogits, null];
  },
});

function weightsOf(gpu: Gpu, { classWeights }: NllAttrs): GpuArray | null {
  return classWeights ? contiguous(gpu, classWeights) : null;
}

function variant<K>(kernels: { plain: K; weighted: K }, classWeights: GpuArray | null): K {
  return classWeights ? kernels.weighted : kernels.plain;
}

function bound(classWeights: GpuArray | null): { class_weights?: GpuArray } {
  return classWeights ? { class_weights: classWeights } : {};
}

/** The gradient fed in: one for each row without reduction, else one for all and what it is multiplied with. */
function gradientOfLoss(
  dy: GpuArray,
  weight: GpuArray | null,
  { reduction }: NllAttrs,
): { readonly split: Arrays; readonly whole: Arrays } {
  return reduction === "none"
    ? { split: { dy }, whole: { weight_saved: weight } }
    : { split: {}, whole: { weight_saved: weight, dy } };
}

/** The mean or sum of row losses, and what the gradient of one row is multiplied with; without reduction the losses. */
function reduced(
  gpu: Gpu,
  loss: GpuArray,
  labels: GpuArray,
  classWeights: GpuArray | null,
  attrs: NllAttrs,
  columns: number,
): { readonly output: GpuArray; readonly weight: GpuArray | null } {
  if (attrs.reduction === "none") return { output: loss, weight: null };
  const y = gpu.empty([]);
  const weight = gpu.empty([1]);
  const { kernel, columns: groups }: RowKernel = variant(totalKernel, classWeights)(gpu, columns);
  const arrays = { labels, loss_saved: loss, y, weight, ...bound(classWeights) };
  gpu.run(kernel, arrays, { rows: labels.size, ...paramsOf(groups, attrs) }, [1, 1, 1]);
  return { output: y, weight };
}

function gradient(gpu: Gpu, dy: GpuArray, saved: CrossEntropySaved, attrs: CrossEntropyAttrs): GpuArray {
  const { logits, labels, lse, weight, classWeights, classSum } = saved;
  const { rows, columns } = rowsOf(logits.shape);
  const dlogits = gpu.like(logits);
  const { kernel, columns: groups } = variant(backwardKernel, classWeights)(gpu, columns);
  const weights = classWeights ? { class_weights: classWeights, class_sum_saved: classSum } : {};
  const { split, whole } = gradientOfLoss(dy, weight, attrs);
  runRows(gpu, kernel, {
    rows,
    split: { logits, labels, lse_saved: lse, dlogits, ...split },
    whole: { ...weights, ...whole },
    params: paramsOf(groups, attrs),
  });
  return dlogits;
}
