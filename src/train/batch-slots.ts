import type { Gpu, TypedArray } from "../array/index.ts";
import { keep, type Tensor, tensor } from "../autograd/index.ts";
import type { Batch } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { EncoderInput, EncoderModel } from "../models/index.ts";

export interface LoadedBatch {
  readonly input: EncoderInput;
  /** Of one pass: classes i32 [B], or numbers to regress on f32 [B]; null for unlabelled batches. */
  readonly labels: Tensor | null;
}

/**
 * Input slots on the GPU: one set of tensors for each shape of batch, overwritten by every batch of that shape.
 * So a step of a known shape creates nothing.
 */
export class BatchSlots {
  readonly #gpu: Gpu;
  readonly #model: EncoderModel;
  readonly #slots = new Map<string, Tensor>();

  constructor(gpu: Gpu, model: EncoderModel) {
    this.#gpu = gpu;
    this.#model = model;
  }

  /** Writes a batch, its rows `passes` times behind one another. */
  load(batch: Batch, passes = 1): LoadedBatch {
    const { size, length } = batch;
    const shape = [size * passes, length];
    const { config } = this.#model;
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

  /** The slot of a name and shape, holding `data`. */
  slot(name: string, data: TypedArray, shape: readonly number[]): Tensor {
    const key = `${name}:${shape.join(",")}`;
    const known = this.#slots.get(key);
    if (known) {
      known.write(data);
      return known;
    }
    const made = keep(tensor(this.#gpu, data, shape));
    this.#slots.set(key, made);
    return made;
  }

  dispose(): void {
    for (const slot of this.#slots.values()) slot.dispose();
    this.#slots.clear();
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

/** Token types for a model that has more than one, so that every batch of a shape has the same tensors. */
function typesOf({ typeIds, size, length }: Batch, count: number): Int32Array<ArrayBuffer> | null {
  const beyond = typeIds?.find((type) => type < 0 || type >= count);
  if (beyond !== undefined)
    throw new ShapeError(`batch: a token of type ${beyond}; the model has ${count} (0 .. ${count - 1})`);
  if (count === 1) return null;
  return typeIds ? Int32Array.from(typeIds) : new Int32Array(size * length);
}

function repeated<A extends Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>>(data: A, times: number): A {
  if (times === 1) return data;
  const all =
    data instanceof Int32Array ? new Int32Array(data.length * times) : new Float32Array(data.length * times);
  for (let i = 0; i < times; i++) all.set(data, i * data.length);
  return all as A; // The same class as `data`.
}
