import type { GlueMetric } from "../data/index.ts";
import { f1Score, matthews, pearson, spearman } from "./correlations.ts";
import { meanOf, scoreEnsemble } from "./metrics.ts";

/** Scores by name, the task's own first. */
export type TaskScores = Readonly<Record<string, number>>;

/** What a task is scored by: GLUE's metrics of classes, or of numbers. */
export interface TaskMetrics {
  readonly metrics: readonly GlueMetric[];
  /** Whether outputs are numbers, one for each example, and not logits of classes. */
  readonly regression: boolean;
}

/**
 * Scores of one or more runs over the same examples, whose outputs are averaged: logits [examples, classes], or numbers.
 * Of classes: the task's metrics, accuracy, and nll, the negative log-likelihood of the mean of the probabilities. Of
 * numbers: the task's metrics, and mse.
 */
export function scoreTask(
  { metrics, regression }: TaskMetrics,
  runs: readonly Float32Array[],
  labels: ArrayLike<number>,
): TaskScores {
  const outputs = meanOf(runs);
  if (regression) {
    const scores = { pearson: pearson(outputs, labels), spearman: spearman(outputs, labels) };
    return { ...pick(scores, metrics), mse: meanSquaredError(outputs, labels) };
  }
  const { accuracy, nll } = scoreEnsemble(runs, labels);
  const predicted = bestClasses(outputs, outputs.length / labels.length);
  const all = { accuracy, f1: f1Score(predicted, labels), matthews: matthews(predicted, labels) };
  return { ...pick(all, metrics), accuracy, nll };
}

/** The number by which checkpoints are compared: the first metric of classes, the mean of those of numbers. */
export function decidingScore({ metrics, regression }: TaskMetrics, scores: TaskScores): number {
  const own = metrics.map((name) => scores[name] ?? Number.NaN);
  return regression ? own.reduce((sum, x) => sum + x, 0) / own.length : (own[0] ?? Number.NaN);
}

function pick<T extends Readonly<Partial<Record<GlueMetric, number>>>>(
  scores: T,
  names: readonly GlueMetric[],
): TaskScores {
  return Object.fromEntries(names.map((name) => [name, scores[name] ?? Number.NaN]));
}

function meanSquaredError(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += ((x[i] as number) - (y[i] as number)) ** 2;
  return sum / x.length;
}

/** The class of each row; the first of equal ones. */
function bestClasses(outputs: ArrayLike<number>, classes: number): Int32Array {
  return Int32Array.from({ length: outputs.length / classes }, (_, row) => {
    let best = 0;
    for (let c = 1; c < classes; c++)
      if ((outputs[row * classes + c] as number) > (outputs[row * classes + best] as number)) best = c;
    return best;
  });
}
