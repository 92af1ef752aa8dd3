import type { Gpu } from "../array/index.ts";
import type { Tensor } from "../autograd/index.ts";
import { type Batch, validateIds } from "../data/index.ts";
import type { EncoderInput, EncoderModel } from "../models/index.ts";
import { checkTypes } from "./check-examples.ts";
import { InputSlots, repeated } from "./input-slots.ts";

export interface LoadedBatch {
  readonly input: EncoderInput;
  /** Of one pass: classes i32 [B], or numbers to regress on f32 [B]; null for unlabelled batches. */
  readonly labels: Tensor | null;
}

/** Batches of an encoder in input slots: a step of a known shape creates nothing. */
export class BatchSlots extends InputSlots {
  readonly #model: EncoderModel;

  constructor(gpu: Gpu, model: EncoderModel) {
    super(gpu);
    this.#model = model;
  }

  /** Writes a batch, its rows `passes` times behind one another. */
  load(batch: Batch, passes = 1): LoadedBatch {
    const { size, length } = batch;
    const shape = [size * passes, length];
    const { config } = this.#model;
    validateIds(rowsOf(batch), config.vocab_size, "batch: row");
    const positions = this.#model.positionsOf(batch.inputIds, length);
    const types = typesOf(batch, config.type_vocab_size);
    const input = {
      inputIds: this.slot("ids", repeated(Int32Array.from(batch.inputIds), passes), shape),
      positionIds: this.slot("positions", repeated(positions, passes), shape),
      attentionMask: this.slot("mask", repeated(Int32Array.from(batch.attentionMask), passes), shape),
      tokenTypeIds: types && this.slot("types", repeated(types, passes), shape),
      poolingWeights: config.classifier_pooling === "mean" ? this.#poolingWeights(batch, passes) : null,
    };
    const { labels, targets } = batch;
    if (targets) return { input, labels: this.slot("targets", Float32Array.from(targets), [size]) };
    return { input, labels: labels && this.slot("labels", Int32Array.from(labels), [size]) };
  }

  #poolingWeights({ attentionMask, size, length }: Batch, passes: number): Tensor {
    const weights = new Float32Array(size * length);
    for (let row = 0; row < size; row++) {
      const mask = attentionMask.subarray(row * length, (row + 1) * length);
      const share =
        1 /
        Math.max(
          1,
          mask.reduce((n, kept) => n + kept, 0),
        );
      weights.set(
        Float32Array.from(mask, (kept) => kept * share),
        row * length,
      );
    }
    return this.slot("pooling", repeated(weights, passes), [size * passes, 1, length]);
  }
}

function* rowsOf({ inputIds, size, length }: Batch): Generator<Int32Array> {
  for (let row = 0; row < size; row++) yield inputIds.subarray(row * length, (row + 1) * length);
}

/** Token types for a model that has more than one, so that every batch of a shape has the same tensors. */
function typesOf({ typeIds, size, length }: Batch, count: number): Int32Array<ArrayBuffer> | null {
  if (typeIds) checkTypes("batch:", typeIds, count);
  if (count === 1) return null;
  return typeIds ? Int32Array.from(typeIds) : new Int32Array(size * length);
}
