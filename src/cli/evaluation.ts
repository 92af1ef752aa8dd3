import type { Gpu } from "../array/index.ts";
import type { Encoded } from "../data/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import { type ClassificationScores, type PretrainedFolder, predict, scoreLogits } from "../train/index.ts";
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
): Promise<ClassificationScores> {
  return scoreLogits(await predict(gpu, model, examples), labelsOf(examples));
}

export function labelsOf(examples: readonly Encoded[]): number[] {
  return examples.map(({ label }) => label as number); // readExamples lets labelled ones through alone
}
