import type { Gpu } from "../array/index.ts";
import type { Encoded } from "../data/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import {
  type PretrainedFolder,
  predict,
  scoreTask,
  spread,
  type TaskMetrics,
  type TaskScores,
} from "../train/index.ts";
import { digits, majorityShare } from "./report.ts";
import { encodeExamples, readExamples, type Split, type TaskSource } from "./tasks.ts";

/** The examples of one split as token ids. */
export async function encodedSplit(
  task: TaskSource,
  split: Split,
  { source, maxLength }: { readonly source: PretrainedFolder; readonly maxLength: number },
): Promise<Encoded[]> {
  return encodeExamples(source, await readExamples(task, split), maxLength);
}

/** Scores of the model as it is now: the one way in which training and `evaluate` score. */
export async function score(
  gpu: Gpu,
  model: SequenceClassifier,
  examples: readonly Encoded[],
  metrics: TaskMetrics,
): Promise<TaskScores> {
  return scoreTask(metrics, [await predict(gpu, model, examples)], labelsOf(examples));
}

/** What examples are like before anything is learnt: the share of the commonest class, or how numbers are spread. */
export function labelsLine(examples: readonly Encoded[], { regression }: TaskMetrics): string {
  const labels = labelsOf(examples);
  if (!regression) return `majority class ${digits(majorityShare(labels))}`;
  const { mean, sd } = spread(labels);
  return `numbers of mean ${digits(mean)}, deviation ${digits(sd)}`;
}

export function labelsOf(examples: readonly Encoded[]): number[] {
  return examples.map(({ label }) => label as number); // readExamples lets labelled ones through alone
}
