/** Masks for masked-language-model pretraining. */

import type { Batch } from "./batches.ts";
import { createRng } from "./random.ts";

/** The label of a place that the loss leaves out. */
export const IGNORE = -100;

export interface MaskingOptions {
  readonly maskId: number;
  readonly vocabSize: number;
  /** Ids that are neither masked nor put in. */
  readonly specialIds: Iterable<number>;
  /** The smallest id that may be put in at random; 261 for the demonstration model leaves out single bytes. */
  readonly randomFrom?: number;
  /** The part of the tokens to predict. */
  readonly rate?: number;
  /** Another rate for the last sentence of a row: the tokens between its last two separators. */
  readonly lastSentence?: { readonly separatorId: number; readonly rate: number };
  /** Draws depend on nothing else: give every step its own, such as `mixSeed(seed, step)`. */
  readonly seed: number;
}

export interface MaskedBatch {
  /** The ids with places masked [size, length]. */
  readonly inputIds: Int32Array;
  /** The id that was there, or IGNORE [size, length]. */
  readonly labels: Int32Array;
  /** How many places are to be predicted. */
  readonly count: number;
}

/**
 * Chooses 15% of the tokens to predict; of these 80% become the mask, 10% stay, 10% become a random token.
 * If chance chooses none, one token is chosen, so that the mean loss exists; a batch of specials has none.
 */
export function maskTokens(
  batch: Pick<Batch, "inputIds" | "size" | "length">,
  options: MaskingOptions,
): MaskedBatch {
  const { maskId, vocabSize, rate = 0.15, lastSentence, seed } = options;
  const specials = new Set(options.specialIds);
  const randoms = randomIds(vocabSize, specials, options.randomFrom ?? 0);
  const rng = createRng(seed);
  const inputIds = batch.inputIds.slice();
  const labels = new Int32Array(inputIds.length).fill(IGNORE);
  const eligible: number[] = [];
  let count = 0;

  const predict = (place: number, id: number) => {
    labels[place] = id;
    const kind = rng.uniform();
    if (kind < 0.8) inputIds[place] = maskId;
    else if (kind >= 0.9) inputIds[place] = rng.pick(randoms);
    count++;
  };

  for (let row = 0; row < batch.size; row++) {
    const start = row * batch.length;
    const ids = batch.inputIds.subarray(start, start + batch.length);
    const [from, to] = lastSentence === undefined ? [0, 0] : lastSentenceOf(ids, lastSentence.separatorId);
    ids.forEach((id, i) => {
      if (specials.has(id)) return;
      eligible.push(start + i);
      const chance = lastSentence !== undefined && i >= from && i < to ? lastSentence.rate : rate;
      if (rng.chance(chance)) predict(start + i, id);
    });
  }
  if (count === 0 && eligible.length > 0) {
    const place = rng.pick(eligible);
    predict(place, batch.inputIds[place] as number); // `eligible` holds places of the batch
  }
  return { inputIds, labels, count };
}

/** The places [from, to) between the last two separators; none if there are fewer than two. */
export function lastSentenceOf(ids: Int32Array, separatorId: number): readonly [from: number, to: number] {
  const to = ids.lastIndexOf(separatorId);
  const before = to <= 0 ? -1 : ids.lastIndexOf(separatorId, to - 1);
  return before < 0 ? [0, 0] : [before + 1, to];
}

function randomIds(vocabSize: number, specials: ReadonlySet<number>, from: number): readonly number[] {
  const ids: number[] = [];
  for (let id = from; id < vocabSize; id++) if (!specials.has(id)) ids.push(id);
  if (ids.length === 0) throw new RangeError(`masking: no id from ${from} below ${vocabSize} may be put in`);
  return ids;
}
