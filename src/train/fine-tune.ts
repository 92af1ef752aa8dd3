import type { Gpu } from "../array/index.ts";
import type { Parameter, Tensor } from "../autograd/index.ts";
import { collate, type Encoded } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import type { Module } from "../nn/index.ts";
import { type AdaptationSet, distanceOfPasses, taskLoss } from "../peft/index.ts";
import { BatchSlots } from "./batch-slots.ts";
import { checkExamples } from "./check-examples.ts";
import {
  type FineTuneResult,
  type TrainingBatch,
  type TrainingConsistency,
  type TrainingOptions,
  type TrainingTask,
  trainingLoop,
} from "./training-loop.ts";

export interface FineTuneOptions extends TrainingOptions {
  readonly train: readonly Encoded[];
  /** Lengths are padded to a multiple of this, so that batches come in few shapes. Default 8. */
  readonly multiple?: number;
}

/**
 * Trains whatever of the model requires a gradient, and the set; a model with one label learns numbers (a regression).
 * Each step: routes are drawn, both passes run as one batch of 2B rows, gradients are clipped, AdamW moves.
 */
export async function fineTune(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet | null,
  options: FineTuneOptions,
): Promise<FineTuneResult> {
  return trainingLoop(gpu, classifierTask(gpu, model, trainable(model, set), options), set, options);
}

/** Parameters that training changes: those of the model that are not frozen, then the set's. */
export function trainable(model: Module, set: AdaptationSet | null): Parameter[] {
  const own = model.parameters().filter((parameter) => parameter.requiresGrad);
  return [...own, ...(set?.parameters() ?? [])];
}

/** Training a classifier, or a regression, on labelled sequences. */
export function classifierTask(
  gpu: Gpu,
  model: SequenceClassifier,
  parameters: readonly Parameter[],
  {
    train,
    multiple = 8,
    consistency,
  }: Pick<FineTuneOptions, "train" | "multiple"> & { readonly consistency?: TrainingConsistency },
): TrainingTask {
  const isRegression = model.config.num_labels === 1;
  checkLabels(train, model.config.num_labels);
  checkExamples("fineTune", model, train);
  const slots = new BatchSlots(gpu, model);
  const { weight: _, ...distance } = consistency ?? {};
  const load = (indices: Int32Array, copies: number): TrainingBatch => {
    const options = { padId: model.config.pad_token_id, multiple, regression: isRegression };
    const batch = collate(train, indices, options);
    const { input, labels } = slots.load(batch, copies);
    return {
      shape: `${batch.size}x${batch.length}`,
      examples: batch.size,
      tokens: batch.length,
      forward: (given) => model.forward(input, given),
      loss: (logits) => taskLoss(logits, labels as Tensor), // every example has one, see checkLabels
      distance: (first, second) => distanceOfPasses(first, second, isRegression, distance),
    };
  };
  return { name: "fineTune", examples: train.length, parameters, load, dispose: () => slots.dispose() };
}

function checkLabels(train: readonly Encoded[], classes: number): void {
  train.forEach(({ label }, i) => {
    if (classes === 1) {
      if (typeof label === "number" && Number.isFinite(label)) return;
      throw new ShapeError(
        `fineTune: example ${i} has label ${label}; a model with one label learns numbers`,
      );
    }
    if (typeof label !== "number" || !Number.isInteger(label) || label < 0 || label >= classes) {
      throw new ShapeError(
        `fineTune: example ${i} has label ${label}; the model has classes 0..${classes - 1}`,
      );
    }
  });
}
