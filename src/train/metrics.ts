import { validateLabels } from "../data/index.ts";

/** Accuracy and mean negative log-likelihood (in nats). */
export interface ClassificationScores {
  readonly accuracy: number;
  readonly nll: number;
}

/** Probabilities of logits [rows, classes], in float64. */
export function probabilities(logits: ArrayLike<number>, classes: number): Float64Array {
  const result = new Float64Array(logits.length);
  for (let row = 0; row < logits.length; row += classes) {
    let top = -Infinity;
    for (let c = 0; c < classes; c++) top = Math.max(top, logits[row + c] as number);
    let sum = 0;
    for (let c = 0; c < classes; c++) sum += result[row + c] = Math.exp((logits[row + c] as number) - top);
    for (let c = 0; c < classes; c++) (result[row + c] as number) /= sum;
  }
  return result;
}

/** Scores of probabilities [rows, classes] against class indices. The first of equal classes wins. */
export function scoreProbabilities(p: ArrayLike<number>, labels: ArrayLike<number>): ClassificationScores {
  const classes = classesOf(p, labels);
  let hits = 0;
  let nll = 0;
  for (let row = 0; row < labels.length; row++) {
    let best = 0;
    for (let c = 1; c < classes; c++)
      if ((p[row * classes + c] as number) > (p[row * classes + best] as number)) best = c;
    if (best === labels[row]) hits++;
    nll -= Math.log(Math.max(p[row * classes + (labels[row] as number)] as number, 1e-300));
  }
  return { accuracy: hits / labels.length, nll: nll / labels.length };
}

export function scoreLogits(logits: ArrayLike<number>, labels: ArrayLike<number>): ClassificationScores {
  return scoreProbabilities(probabilities(logits, classesOf(logits, labels)), labels);
}

/** How many classes outputs [rows, classes] are of, where there is a row for each label, and each label is a class. */
export function classesOf(outputs: ArrayLike<number>, labels: ArrayLike<number>): number {
  const classes = outputs.length / labels.length;
  if (!(Number.isInteger(classes) && classes >= 1))
    throw new RangeError(
      `scores: ${outputs.length} outputs for ${labels.length} labels; expected a row [classes] for each`,
    );
  validateLabels(labels, classes, "scores: example");
  return classes;
}

/**
 * An ensemble of routes: accuracy of the mean of their logits, nll of the mean of their probabilities (the
 * predictive distribution). Paper: section 3.5.
 */
export function scoreEnsemble(
  runs: readonly Float32Array[],
  labels: ArrayLike<number>,
): ClassificationScores {
  const classes = classesOf(runs[0] ?? [], labels);
  const logits = meanOf(runs);
  const mixture = meanOf(runs.map((run) => probabilities(run, classes)));
  return { accuracy: scoreLogits(logits, labels).accuracy, nll: scoreProbabilities(mixture, labels).nll };
}

/** Mean and standard deviation (n - 1) of some numbers; the deviation of one is 0. */
export function spread(values: readonly number[]): { readonly mean: number; readonly sd: number } {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, sd: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0 };
}

/** The mean of runs, number by number. */
export function meanOf(runs: readonly ArrayLike<number>[]): Float64Array {
  const result = new Float64Array(runs[0]?.length ?? 0);
  for (const run of runs)
    for (let i = 0; i < result.length; i++) (result[i] as number) += (run[i] as number) / runs.length;
  return result;
}
