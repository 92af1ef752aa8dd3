import { logSoftmax, softmax } from "./normalise.ts";
import {
  around,
  at,
  axisOf,
  broadcastShape,
  expand,
  lengthOf,
  type RefIndices,
  type RefTensor,
  ref,
} from "./tensor.ts";

export type Reduction = "mean" | "sum" | "none";

export interface CrossEntropyOptions {
  /** Rows with this label count neither in the sum nor in the mean. */
  readonly ignoreIndex?: number | undefined;
  /** e: (1 - e)·w[label]·nll + e·mean over classes of -w·log p. */
  readonly labelSmoothing?: number | undefined;
  /** w: 1 by default. A mean is divided by those of the labels. */
  readonly weights?: readonly number[] | undefined;
  readonly reduction?: Reduction | undefined;
}

/** logits [..., V], labels [...] -> scalar, or one loss per row with "none". */
export function crossEntropy(
  logits: RefTensor,
  labels: RefIndices,
  options: CrossEntropyOptions = {},
): RefTensor {
  return nllLoss(logSoftmax(logits), labels, options);
}

/** The same of log-probabilities. */
export function nllLoss(
  logp: RefTensor,
  labels: RefIndices,
  { ignoreIndex = -100, labelSmoothing = 0, weights, reduction = "mean" }: CrossEntropyOptions = {},
): RefTensor {
  const losses = rowLosses(logp, labels, ignoreIndex, labelSmoothing, weights);
  if (reduction === "none") return { shape: labels.shape, data: losses };
  let sum = 0;
  let counted = 0;
  for (const [row, label] of labels.data.entries()) {
    sum += at(losses, row);
    if (label !== ignoreIndex) counted += weights ? at(weights, label) : 1;
  }
  return ref([], [reduction === "mean" ? sum / counted : sum]);
}

function rowLosses(
  { shape, data: logp }: RefTensor,
  labels: RefIndices,
  ignoreIndex: number,
  e: number,
  weights?: readonly number[],
): Float64Array {
  const V = lengthOf(shape, -1);
  const weightOf = (v: number): number => (weights ? at(weights, v) : 1);
  return Float64Array.from(labels.data, (label, row) => {
    if (label === ignoreIndex) return 0;
    let sum = 0;
    for (let v = 0; e > 0 && v < V; v++) sum += weightOf(v) * at(logp, row * V + v);
    return -(1 - e) * weightOf(label) * at(logp, row * V + label) - (e * sum) / V;
  });
}

/** Σ mask·loss / (Σ mask + 1e-4) with smoothed row losses: the language-model loss of AdaMix. */
export function maskedCrossEntropy(
  logits: RefTensor,
  labels: RefIndices,
  mask: RefTensor,
  { labelSmoothing = 0 }: { labelSmoothing?: number } = {},
): RefTensor {
  const losses = rowLosses(logSoftmax(logits), labels, Number.NaN, labelSmoothing);
  let sum = 0;
  let weight = 0;
  for (const [row, loss] of losses.entries()) {
    if (mask.data[row] === 0) continue; // its label may be anything
    sum += loss * at(mask.data, row);
    weight += at(mask.data, row);
  }
  return ref([], [sum / (weight + 1e-4)]);
}

/**
 * ½ [KL(Q ‖ P) + KL(P ‖ Q)], summed over classes and divided by rows, P and Q the softmaxes of p and q.
 * `targets` are logits for the left sides, Q and P: pass copies of p and q to hold them fixed (stop-gradient) while
 * p and q are varied. p, q [rows, V] -> scalar. Paper: section 3.2.
 */
export function symmetricKL(
  p: RefTensor,
  q: RefTensor,
  {
    targets = [p, q],
    reduction = "mean",
  }: { targets?: readonly [p: RefTensor, q: RefTensor]; reduction?: Reduction } = {},
): RefTensor {
  const [fixedP, fixedQ] = targets;
  const [one, other] = [divergences(fixedQ, p), divergences(fixedP, q)];
  const data = one.map((value, row) => 0.5 * (value + at(other, row)));
  return reduce({ shape: p.shape.slice(0, -1), data }, reduction);
}

/** Σ t (log t - log y) for the distributions in each row of two tensors of logits. */
function divergences(target: RefTensor, logits: RefTensor): Float64Array {
  const t = softmax(target).data;
  const logT = logSoftmax(target).data;
  const logY = logSoftmax(logits).data;
  const columns = lengthOf(target.shape, -1);
  const sums = new Float64Array(t.length / columns);
  for (let i = 0; i < t.length; i++)
    if (t[i] !== 0) (sums[Math.floor(i / columns)] as number) += at(t, i) * (at(logT, i) - at(logY, i));
  return sums;
}

/** f of each pair, and their mean, sum, or none of these. */
function pairwise(
  x: RefTensor,
  target: RefTensor,
  reduction: Reduction,
  f: (x: number, t: number) => number,
): RefTensor {
  const losses = x.data.map((value, i) => f(value, at(target.data, i)));
  return reduce({ shape: x.shape, data: losses }, reduction);
}

function reduce(losses: RefTensor, reduction: Reduction): RefTensor {
  if (reduction === "none") return losses;
  let sum = 0;
  for (const loss of losses.data) sum += loss;
  return ref([], [reduction === "mean" ? sum / losses.data.length : sum]);
}

/** (x - t)². */
export function mse(
  x: RefTensor,
  target: RefTensor,
  { reduction = "mean" }: { reduction?: Reduction } = {},
): RefTensor {
  return pairwise(x, target, reduction, (v, t) => (v - t) ** 2);
}

/** |x - t|. */
export function l1(
  x: RefTensor,
  target: RefTensor,
  { reduction = "mean" }: { reduction?: Reduction } = {},
): RefTensor {
  return pairwise(x, target, reduction, (v, t) => Math.abs(v - t));
}

/** d²/2 below delta, delta (|d| - delta/2) above. */
export function huber(
  x: RefTensor,
  target: RefTensor,
  { delta = 1, reduction = "mean" }: { delta?: number; reduction?: Reduction } = {},
): RefTensor {
  return pairwise(x, target, reduction, (v, t) => {
    const d = Math.abs(v - t);
    return d < delta ? (d * d) / 2 : delta * (d - delta / 2);
  });
}

/** d²/(2 beta) below beta, |d| - beta/2 above. */
export function smoothL1(
  x: RefTensor,
  target: RefTensor,
  { beta = 1, reduction = "mean" }: { beta?: number; reduction?: Reduction } = {},
): RefTensor {
  return pairwise(x, target, reduction, (v, t) => {
    const d = Math.abs(v - t);
    return d < beta ? (d * d) / (2 * beta) : d - beta / 2;
  });
}

/** t (log t - x), or e^t (t - x) for targets that are logarithms; 0 log 0 is 0. "batchmean" divides by dimension 0. */
export function klDivergence(
  x: RefTensor,
  target: RefTensor,
  {
    logTarget = false,
    reduction = "mean",
  }: { logTarget?: boolean; reduction?: Reduction | "batchmean" } = {},
): RefTensor {
  const f = (v: number, t: number): number => {
    if (logTarget) return Math.exp(t) * (t - v);
    return t === 0 ? 0 : t * (Math.log(t) - v);
  };
  if (reduction !== "batchmean") return pairwise(x, target, reduction, f);
  const sum = pairwise(x, target, "sum", f);
  return ref([], [at(sum.data, 0) / at(x.shape, 0)]);
}

/** -w [p t log σ(x) + (1 - t) log(1 - σ(x))]; w and p broadcast. */
export function bceWithLogits(
  x: RefTensor,
  target: RefTensor,
  {
    weight = ref([], 1),
    posWeight = ref([], 1),
    reduction = "mean",
  }: { weight?: RefTensor | undefined; posWeight?: RefTensor | undefined; reduction?: Reduction } = {},
): RefTensor {
  const w = expand(weight, x.shape);
  const p = expand(posWeight, x.shape);
  const losses = ref(x.shape);
  for (const [i, v] of x.data.entries()) {
    const t = at(target.data, i);
    losses.data[i] = at(w.data, i) * (at(p.data, i) * t * softplus(-v) + (1 - t) * softplus(v));
  }
  return reduce(losses, reduction);
}

function softplus(v: number): number {
  return Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
}

/** a·b / (max(|a|, eps) max(|b|, eps)) along a dimension; a and b broadcast. */
export function cosineSimilarity(
  a: RefTensor,
  b: RefTensor,
  { dim = 1, eps = 1e-8 }: { dim?: number; eps?: number } = {},
): RefTensor {
  const shape = broadcastShape(a.shape, b.shape);
  const [x, y] = [expand(a, shape), expand(b, shape)];
  const { outer, length, inner } = around(shape, dim);
  const axis = axisOf(shape.length, dim);
  const out = ref(shape.filter((_, d) => d !== axis));
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      let [dot, xx, yy] = [0, 0, 0];
      for (let l = 0; l < length; l++) {
        const e = (o * length + l) * inner + i;
        dot += at(x.data, e) * at(y.data, e);
        xx += at(x.data, e) ** 2;
        yy += at(y.data, e) ** 2;
      }
      out.data[o * inner + i] = dot / (Math.max(Math.sqrt(xx), eps) * Math.max(Math.sqrt(yy), eps));
    }
  }
  return out;
}
