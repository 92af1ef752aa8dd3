import { type Encoded, validateIds } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { EncoderModel } from "../models/index.ts";

/**
 * Refuses examples that an encoder has no embeddings for, before anything runs: on the device an id out of range is NaN.
 * Each has tokens, ids within the vocabulary, no more of them than positions, and a token type for each or none.
 */
export function checkExamples(what: string, model: EncoderModel, examples: readonly Encoded[]): void {
  const { vocab_size, type_vocab_size } = model.config;
  validateIds(idsOf(examples), vocab_size, `${what}: example`);
  for (const [i, { ids, types }] of examples.entries()) {
    if (ids.length === 0) throw new ShapeError(`${what}: example ${i} has no token`);
    checkLength(`${what}: example ${i}`, model, ids);
    if (!types) continue;
    if (types.length !== ids.length)
      throw new ShapeError(`${what}: example ${i} has ${ids.length} tokens and ${types.length} token types`);
    checkTypes(`${what}: example ${i} has`, types, type_vocab_size);
  }
}

/** Refuses token types that a model has no embedding for. */
export function checkTypes(what: string, types: Int32Array, count: number): void {
  const beyond = types.find((type) => type < 0 || type >= count);
  if (beyond !== undefined)
    throw new ShapeError(`${what} a token of type ${beyond}; the model has ${count} (0 .. ${count - 1})`);
}

/** Which tokens take positions, and how many of these are left, the model knows. */
function checkLength(what: string, model: EncoderModel, ids: Int32Array): void {
  try {
    model.positionsOf(ids, ids.length);
  } catch (cause) {
    throw new ShapeError(`${what}: ${(cause as Error).message}`, { cause });
  }
}

function* idsOf(examples: readonly Encoded[]): Generator<Int32Array> {
  for (const { ids } of examples) yield ids;
}
