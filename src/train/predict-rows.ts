import type { Gpu } from "../array/index.ts";
import { noGrad } from "../autograd/index.ts";
import { type Encoded, sequentialBatches } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Adapters } from "./adapters.ts";
import { BatchSlots } from "./batch-slots.ts";
import { checkExamples } from "./check-examples.ts";

export interface PredictRowsOptions {
  readonly batchSize?: number;
  /** Lengths are padded to a multiple of this. Default 4. */
  readonly multiple?: number;
}

/**
 * Logits of every example by its own adapter, in the order given: names[i] is that of example i, null is the base.
 * Examples of different adapters share batches.
 */
export async function predictRows(
  gpu: Gpu,
  adapters: Adapters,
  examples: readonly Encoded[],
  names: readonly (string | null)[],
  { batchSize = 64, multiple = 4 }: PredictRowsOptions = {},
): Promise<Float32Array[]> {
  if (names.length !== examples.length)
    throw new ShapeError(
      `predictRows: ${names.length} names for ${examples.length} examples; give one for each`,
    );
  const { model } = adapters;
  checkExamples("predictRows", model, examples);
  const results: Float32Array[] = examples.map(() => new Float32Array());
  const slots = new BatchSlots(gpu, model);
  const size = Math.min(batchSize, Math.max(1, examples.length));
  for (const batch of sequentialBatches(examples, size, { padId: model.config.pad_token_id, multiple })) {
    const rows = Array.from(batch.indices, (index) => names[index] ?? null);
    const { input } = slots.load({ ...batch, labels: null, targets: null });
    for (const { rows: own, logits } of noGrad(() => adapters.forwardRows(input, rows))) {
      const values = (await logits.data()) as Float32Array; // logits are f32
      const classes = logits.shape[1] as number;
      logits.dispose();
      for (const [i, row] of own.entries())
        if (row < batch.valid)
          results[batch.indices[row] as number] = values.slice(i * classes, (i + 1) * classes);
    }
  }
  slots.dispose();
  return results;
}
