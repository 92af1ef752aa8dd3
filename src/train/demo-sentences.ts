import {
  type LabelledSentence,
  pretrainingLines,
  repeatableSentences,
  sentimentTask,
} from "../data/index.ts";

/** Lines and seed that the embedded encoder was pretrained on. */
export const DEMO_PRETRAINING = { lines: 150_000, seed: 11 } as const;

const PER_LABEL = 32;
const DEV = { n: 500, seed: 77 } as const;
const TEST = { n: 300, seed: 78 } as const;

/** The embedded task: 32 labelled sentences of each class, drawn anew for each seed. */
export function demoTrainingSentences(seed: number): LabelledSentence[] {
  return sentimentTask({ split: "train", seed: 5000 + seed, perLabel: PER_LABEL });
}

/**
 * Sentences whose combination of aspect, word and construction occurs neither in training nor in pretraining.
 * Sentences without such a combination can repeat; those that pretraining has seen are left out.
 */
export function demoHeldOutSentences(split: "dev" | "test"): LabelledSentence[] {
  const { lines, seed } = DEMO_PRETRAINING;
  const exclude = repeatableSentences(pretrainingLines(lines, { seed }));
  return sentimentTask({ split, exclude, ...(split === "dev" ? DEV : TEST) });
}
