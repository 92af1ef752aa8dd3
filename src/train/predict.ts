import type { Gpu } from "../array/index.ts";
import { noGrad } from "../autograd/index.ts";
import { type Batch, type Encoded, sequentialBatches } from "../data/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import type { AdaptationSet, Router } from "../peft/index.ts";
import { BatchSlots } from "./batch-slots.ts";
import { checkExamples } from "./check-examples.ts";

export interface PredictOptions {
  readonly batchSize?: number;
  /** Lengths are padded to a multiple of this. Default 4. */
  readonly multiple?: number;
  /** Called before each batch, with its number: draws routes. */
  readonly beforeBatch?: (number: number, batch: Batch) => void;
}

/** Logits of every example, row-major [examples, classes], in the order given. */
export async function predict(
  gpu: Gpu,
  model: SequenceClassifier,
  examples: readonly Encoded[],
  { batchSize = 64, multiple = 4, beforeBatch }: PredictOptions = {},
): Promise<Float32Array> {
  const { config } = model;
  checkExamples("predict", model, examples);
  const classes = config.num_labels;
  const result = new Float32Array(examples.length * classes);
  const slots = new BatchSlots(gpu, model);
  const size = Math.min(batchSize, Math.max(1, examples.length));
  let number = 0;
  for (const batch of sequentialBatches(examples, size, { padId: config.pad_token_id, multiple })) {
    beforeBatch?.(number++, batch);
    const logits = noGrad(() => model.forward(slots.load({ ...batch, labels: null, targets: null }).input));
    const values = await logits.data();
    logits.dispose();
    for (let row = 0; row < batch.valid; row++) {
      const at = batch.indices[row] as number;
      result.set((values as Float32Array).subarray(row * classes, (row + 1) * classes), at * classes);
    }
  }
  slots.dispose();
  return result;
}

/** Logits under `count` sampled routes, each drawn anew for every batch. Paper: section 3.5. */
export async function predictRoutes(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet,
  examples: readonly Encoded[],
  { router, count, ...options }: { router: Router; count: number } & Omit<PredictOptions, "beforeBatch">,
): Promise<Float32Array[]> {
  const results: Float32Array[] = [];
  for (let pass = 0; pass < count; pass++) {
    const beforeBatch = (batch: number): void =>
      set.routes.draw(router, { step: batch, passes: 1, firstPass: pass });
    results.push(await predict(gpu, model, examples, { ...options, beforeBatch }));
  }
  return results;
}
