import { classesOf, probabilities } from "./metrics.ts";

/** What the probabilities of several routes say together. Paper: section 3.5; all in float64. */
export interface Predictive {
  /** Mean over runs, [examples, classes]: the predictive distribution. */
  readonly mean: Float64Array;
  /** Variance over runs (n), [examples, classes]. */
  readonly variance: Float64Array;
  /** Entropy of the mean, in nats [examples]: total uncertainty. */
  readonly entropy: Float64Array;
  /** Entropy of the mean less the mean entropy [examples]: how far the runs disagree (mutual information). */
  readonly disagreement: Float64Array;
}

/** Mean and variance of the probabilities of runs, each logits [examples, classes]. */
export function predictive(runs: readonly ArrayLike<number>[], classes: number): Predictive {
  const all = runs.map((run) => probabilities(run, classes));
  const size = runs[0]?.length ?? 0;
  const mean = new Float64Array(size);
  const variance = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    for (const p of all) (mean[i] as number) += (p[i] as number) / all.length;
    for (const p of all)
      (variance[i] as number) += ((p[i] as number) - (mean[i] as number)) ** 2 / all.length;
  }
  const entropy = entropies(mean, classes);
  const disagreement = entropy.slice();
  for (const p of all)
    for (const [row, own] of entropies(p, classes).entries())
      (disagreement[row] as number) -= own / all.length;
  return { mean, variance, entropy, disagreement };
}

function entropies(p: Float64Array, classes: number): Float64Array {
  const result = new Float64Array(p.length / classes);
  for (const [i, value] of p.entries())
    if (value > 0) (result[Math.floor(i / classes)] as number) -= value * Math.log(value);
  return result;
}

/**
 * Expected calibration error (Guo et al. 2017): Σ_b (n_b / n) |accuracy of b - mean confidence of b| over bins of equal
 * width of the largest probability. p [examples, classes]. 0: confidence is as high as accuracy. Default 15 bins.
 */
export function expectedCalibrationError(p: ArrayLike<number>, labels: ArrayLike<number>, bins = 15): number {
  if (!(Number.isInteger(bins) && bins >= 1))
    throw new RangeError(`expectedCalibrationError: ${bins} bins, expected 1 or more`);
  const classes = classesOf(p, labels);
  // Of each bin: hits less confidences.
  const gaps = new Float64Array(bins);
  for (let row = 0; row < labels.length; row++) {
    let best = 0;
    for (let c = 1; c < classes; c++)
      if ((p[row * classes + c] as number) > (p[row * classes + best] as number)) best = c;
    const confidence = p[row * classes + best] as number;
    const bin = Math.min(bins - 1, Math.max(0, Math.ceil(confidence * bins) - 1));
    (gaps[bin] as number) += (best === labels[row] ? 1 : 0) - confidence;
  }
  return gaps.reduce((sum, gap) => sum + Math.abs(gap), 0) / labels.length;
}
