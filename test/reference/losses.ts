import { logSoftmax, softmax } from "./normalise.ts";
import { at, lengthOf, type RefIndices, type RefTensor, ref } from "./tensor.ts";

export interface CrossEntropyOptions {
  /** Rows with this label count neither in the sum nor in the mean. */
  readonly ignoreIndex?: number | undefined;
  /** e: (1 - e)·nll + e·mean over classes of -log p. */
  readonly labelSmoothing?: number | undefined;
  readonly reduction?: "mean" | "sum" | "none" | undefined;
}

/** logits [..., V], labels [...] -> scalar, or one loss per row with "none". */
export function crossEntropy(
  logits: RefTensor,
  labels: RefIndices,
  { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" }: CrossEntropyOptions = {},
): RefTensor {
  const losses = rowLosses(logits, labels, ignoreIndex, labelSmoothing);
  if (reduction === "none") return { shape: labels.shape, data: losses };
  let sum = 0;
  for (const loss of losses) sum += loss;
  const counted = labels.data.filter((label) => label !== ignoreIndex).length;
  return ref([], [reduction === "mean" ? sum / counted : sum]);
}

function rowLosses(logits: RefTensor, labels: RefIndices, ignoreIndex: number, e: number): Float64Array {
  const V = lengthOf(logits.shape, -1);
  const logp = logSoftmax(logits).data;
  return Float64Array.from(labels.data, (label, row) => {
    if (label === ignoreIndex) return 0;
    let sum = 0;
    for (let v = 0; v < V; v++) sum += at(logp, row * V + v);
    return -(1 - e) * at(logp, row * V + label) - (e * sum) / V;
  });
}

/** Σ mask·loss / (Σ mask + 1e-4) with smoothed row losses: the language-model loss of AdaMix. */
export function maskedCrossEntropy(
  logits: RefTensor,
  labels: RefIndices,
  mask: RefTensor,
  { labelSmoothing = 0 }: { labelSmoothing?: number } = {},
): RefTensor {
  const losses = rowLosses(logits, labels, Number.NaN, labelSmoothing);
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
  { targets = [p, q] }: { targets?: readonly [p: RefTensor, q: RefTensor] } = {},
): RefTensor {
  const rows = p.data.length / lengthOf(p.shape, -1);
  const [fixedP, fixedQ] = targets;
  return ref([], [(0.5 * (divergence(fixedQ, p) + divergence(fixedP, q))) / rows]);
}

/** Σ t (log t - log y) for the distributions of two tensors of logits. */
function divergence(target: RefTensor, logits: RefTensor): number {
  const t = softmax(target).data;
  const logT = logSoftmax(target).data;
  const logY = logSoftmax(logits).data;
  let sum = 0;
  for (let i = 0; i < t.length; i++) if (t[i] !== 0) sum += at(t, i) * (at(logT, i) - at(logY, i));
  return sum;
}

/** Mean squared difference, or the sum of squares. */
export function mse(
  x: RefTensor,
  target: RefTensor,
  { reduction = "mean" }: { reduction?: "mean" | "sum" } = {},
): RefTensor {
  let sum = 0;
  for (let i = 0; i < x.data.length; i++) sum += (at(x.data, i) - at(target.data, i)) ** 2;
  return ref([], [reduction === "mean" ? sum / x.data.length : sum]);
}
