import {
  broadcastShapes,
  knownOptions,
  normaliseAxis,
  type OptionNames,
  sameShape,
  showShape,
} from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { abs, clamp, exp, expand, log, mul, rsqrt, softplus, square, sub, sum } from "./functions.ts";
import { tidy } from "./scope.ts";
import { apply, type Tensor } from "./tensor.ts";

/**
 * Losses. Definitions and defaults are PyTorch's; all are f32 whatever the types of their inputs. `reduction`: "mean"
 * over all elements (default), "sum", or "none" for the losses themselves.
 */

export interface ReductionOptions {
  readonly reduction?: ops.Reduction | undefined;
}
const REDUCTION: OptionNames<ReductionOptions> = { reduction: true };

export interface NllOptions extends ReductionOptions {
  /** Rows with this label count neither in the loss nor in its mean. Default -100. */
  readonly ignoreIndex?: number | undefined;
  /** f32 [C]: a weight for each class. A mean is then divided by the weights of the labels. */
  readonly weight?: Tensor | null | undefined;
}
const NLL: OptionNames<NllOptions> = { ...REDUCTION, ignoreIndex: true, weight: true };

export interface CrossEntropyOptions extends NllOptions {
  /** ε of the targets (1-ε) onehot + ε/C. Default 0. */
  readonly labelSmoothing?: number | undefined;
}
const CROSS_ENTROPY: OptionNames<CrossEntropyOptions> = { ...NLL, labelSmoothing: true };

/** -log softmax(logits)[label]: logits [..., C], labels [...] i32 -> scalar, or [...] with reduction "none". */
export function crossEntropy(logits: Tensor, labels: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkLabels("crossEntropy", labels);
  return apply(
    ops.crossEntropy,
    [logits, labels],
    classAttrs("crossEntropy", knownOptions("crossEntropy", options, CROSS_ENTROPY)),
  );
}

/** -logp[label] of log-probabilities: logp [..., C], labels [...] i32 -> scalar, or [...] with reduction "none". */
export function nllLoss(logp: Tensor, labels: Tensor, options: NllOptions = {}): Tensor {
  checkLabels("nllLoss", labels);
  return apply(ops.nllLoss, [logp, labels], classAttrs("nllLoss", knownOptions("nllLoss", options, NLL)));
}

/** Consistency of two passes. Paper: section 3.2. */
export const symmetricKl = (a: Tensor, b: Tensor, attrs: ops.SymmetricKlAttrs = {}): Tensor =>
  apply(ops.symmetricKl, [a, b], knownOptions("symmetricKl", attrs, SYMMETRIC_KL));
const SYMMETRIC_KL: OptionNames<ops.SymmetricKlAttrs> = { gradient: true, reduction: true };

export interface KlDivergenceOptions {
  /** Whether `target` holds logarithms. Default false, as in PyTorch. */
  readonly logTarget?: boolean | undefined;
  /** "batchmean": the sum divided by the first dimension, which is the divergence's definition. Default "mean". */
  readonly reduction?: ops.Reduction | "batchmean" | undefined;
}
const KL_DIVERGENCE: OptionNames<KlDivergenceOptions> = { ...REDUCTION, logTarget: true };

/**
 * KL(target ‖ input) = Σ t (log t - x), x log-probabilities: x [...], target [...] probabilities or their logarithms.
 * 0 log 0 is 0.
 */
export function klDivergence(input: Tensor, target: Tensor, options: KlDivergenceOptions = {}): Tensor {
  const { logTarget = false, reduction = "mean" } = knownOptions("klDivergence", options, KL_DIVERGENCE);
  sameShapes("klDivergence", input, target);
  if (reduction !== "batchmean") checkReduction("klDivergence", reduction);
  return tidy(() => {
    const [x, t] = [input.to("f32"), target.to("f32")];
    const losses = logTarget
      ? mul(exp(t), sub(t, x))
      : // Below the smallest number a probability is 0, and its term too.
        mul(t, sub(log(clamp(t, TINY, LARGEST)), x));
    if (reduction !== "batchmean") return reduced(losses, reduction);
    const [batch = 1] = x.shape;
    return sum(losses).mul(1 / batch);
  });
}

export interface BceOptions extends ReductionOptions {
  /** Factor of each loss, broadcast. */
  readonly weight?: Tensor | null | undefined;
  /** Factor of the positive part, broadcast: above 1 for rare positives. */
  readonly posWeight?: Tensor | null | undefined;
}
const BCE: OptionNames<BceOptions> = { ...REDUCTION, weight: true, posWeight: true };

/**
 * Binary cross-entropy of logits: -[p t log σ(x) + (1 - t) log(1 - σ(x))], p the weight of positives: x [...],
 * target [...] of 0..1. Written with softplus, so that neither part cancels or overflows.
 */
export function bceWithLogits(x: Tensor, target: Tensor, options: BceOptions = {}): Tensor {
  const { weight, posWeight, reduction = "mean" } = knownOptions("bceWithLogits", options, BCE);
  sameShapes("bceWithLogits", x, target);
  checkReduction("bceWithLogits", reduction);
  for (const factor of [weight, posWeight]) {
    if (factor && !sameShape(broadcastShapes("bceWithLogits", x.shape, factor.shape), x.shape))
      throw new ShapeError(
        `bceWithLogits: weights ${showShape(factor.shape)} do not stretch to ${showShape(x.shape)}`,
      );
  }
  return tidy(() => {
    const [logits, t] = [x.to("f32"), target.to("f32")];
    const positive = mul(t, softplus(logits.neg()));
    const negative = mul(t.neg().add(1), softplus(logits));
    const losses = (posWeight ? mul(positive, posWeight) : positive).add(negative);
    return reduced(weight ? mul(losses, weight) : losses, reduction);
  });
}

/** Squared error: (x - target)². */
export function mse(x: Tensor, target: Tensor, options: ReductionOptions = {}): Tensor {
  const { reduction } = knownOptions("mse", options, REDUCTION);
  return lossOf("mse", x, target, reduction, square);
}

/** Absolute error: |x - target|. Its derivative at 0 is 0. */
export function l1(x: Tensor, target: Tensor, options: ReductionOptions = {}): Tensor {
  const { reduction } = knownOptions("l1", options, REDUCTION);
  return lossOf("l1", x, target, reduction, abs);
}

/** d² / 2β where |d| < β, else |d| - β/2, d = x - target: l1 that is smooth at 0. β = 0 is l1. */
export function smoothL1(
  x: Tensor,
  target: Tensor,
  options: ReductionOptions & { readonly beta?: number } = {},
): Tensor {
  const { beta = 1, reduction } = knownOptions("smoothL1", options, { ...REDUCTION, beta: true });
  if (!(beta >= 0)) throw new ShapeError(`smoothL1: beta is ${beta}, expected 0 or more`);
  if (beta === 0) return l1(x, target, { reduction });
  return lossOf("smoothL1", x, target, reduction, (d) => huberOf(d, beta).mul(1 / beta));
}

/** d² / 2 where |d| < δ, else δ (|d| - δ/2), d = x - target. */
export function huber(
  x: Tensor,
  target: Tensor,
  options: ReductionOptions & { readonly delta?: number } = {},
): Tensor {
  const { delta = 1, reduction } = knownOptions("huber", options, { ...REDUCTION, delta: true });
  if (!(delta > 0)) throw new ShapeError(`huber: delta is ${delta}, expected more than 0`);
  return lossOf("huber", x, target, reduction, (d) => huberOf(d, delta));
}

/** a·b / (max(|a|, eps) max(|b|, eps)) along one dimension, which is dropped; a and b broadcast. */
export function cosineSimilarity(a: Tensor, b: Tensor, axis = 1, eps = 1e-8): Tensor {
  if (!(eps > 0)) throw new ShapeError(`cosineSimilarity: eps is ${eps}, expected more than 0`);
  const shape = broadcastShapes("cosineSimilarity", a.shape, b.shape);
  normaliseAxis("cosineSimilarity", axis, shape.length);
  return tidy(() => {
    const [x, y] = [expand(a.to("f32"), shape), expand(b.to("f32"), shape)];
    // Clamped before the root, whose slope at 0 is infinite.
    const inverse = (v: Tensor): Tensor => rsqrt(clamp(sum(square(v), axis), eps * eps, LARGEST));
    return mul(mul(sum(mul(x, y), axis), inverse(x)), inverse(y));
  });
}

/** The smallest normal f32, and nearly the largest. */
const TINY = 2 ** -126;
const LARGEST = 3.4e38;

function classAttrs(op: string, { weight, ...attrs }: CrossEntropyOptions): ops.CrossEntropyAttrs {
  if (weight?.needsGradient) throw new ShapeError(`${op}: class weights get no gradient; detach() them`);
  return { ...attrs, classWeights: weight?.array };
}

function checkLabels(op: string, { dtype }: Tensor): void {
  if (dtype !== "i32")
    throw new ShapeError(`${op}: labels of ${dtype}, expected i32; cast them with to("i32")`);
}

/** δ-limited: c (|d| - c/2) with c = min(|d|, δ), which is d²/2 below δ and linear above. */
function huberOf(difference: Tensor, delta: number): Tensor {
  const size = abs(difference);
  const limited = clamp(size, 0, delta);
  return mul(limited, sub(size, limited.mul(0.5)));
}

/** f of the difference of two tensors of one shape, reduced. */
function lossOf(
  op: string,
  x: Tensor,
  target: Tensor,
  reduction: ops.Reduction = "mean",
  f: (difference: Tensor) => Tensor,
): Tensor {
  sameShapes(op, x, target);
  checkReduction(op, reduction);
  return tidy(() => reduced(f(sub(x.to("f32"), target.to("f32"))), reduction));
}

function reduced(losses: Tensor, reduction: ops.Reduction): Tensor {
  if (reduction === "none") return losses;
  return reduction === "mean" ? losses.mean() : losses.sum();
}

function checkReduction(op: string, reduction: ops.Reduction): void {
  if (reduction !== "mean" && reduction !== "sum" && reduction !== "none")
    throw new ShapeError(`${op}: reduction "${String(reduction)}", expected mean, sum or none`);
}

/** Losses do not broadcast: a target of another shape is nearly always a mistake. */
function sameShapes(op: string, x: Tensor, target: Tensor): void {
  if (!sameShape(x.shape, target.shape))
    throw new ShapeError(`${op}: ${showShape(x.shape)} and ${showShape(target.shape)} differ in shape`);
}
