/** Contexts with completions as token ids, and batches of them: what causal language models are fine-tuned on. */

import { paddedLength } from "./batches.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One text: a context with its separator, then the completion with the token that ends it. */
export interface Completion {
  readonly ids: Int32Array;
  /** Where the completion begins: the tokens from here on are learned. */
  readonly start: number;
}

export interface CompletionOptions {
  /** Between context and completion, and behind it. GPT-2: <|endoftext|> for both. */
  readonly separator: number;
  readonly end: number;
  /** Longer texts lose their end. */
  readonly maxLength?: number;
}

/** context + separator + completion + end. A completion that nothing is left of is refused. */
export function joinCompletion(
  context: ArrayLike<number>,
  completion: ArrayLike<number>,
  { separator, end, maxLength = Number.POSITIVE_INFINITY }: CompletionOptions,
): Completion {
  const start = context.length + 1;
  if (start >= maxLength)
    throw new RangeError(
      `completion: a context of ${context.length} tokens leaves no place for one in ${maxLength} (cut the context, or raise maxLength)`,
    );
  const all = [...Array.from(context), separator, ...Array.from(completion), end];
  return { ids: Int32Array.from(all.slice(0, maxLength)), start };
}

/** A context and what is to follow it, as texts. */
export interface CompletionText {
  readonly context: string;
  readonly completion: string;
}

/** Lines `context||completion`, as the E2E data of the authors has them. Empty lines are skipped. */
export function readCompletions(text: string): CompletionText[] {
  const result: CompletionText[] = [];
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === "") continue;
    const [context, completion, ...more] = line.split("||");
    if (context === undefined || completion === undefined || more.length > 0)
      throw new RangeError(
        `completions: line ${i + 1} has ${more.length + (completion === undefined ? 1 : 2)} parts, expected context||completion`,
      );
    result.push({ context: context.trim(), completion: completion.trim() });
  }
  return result;
}

/**
 * The data line of the paper's NLG experiments: tokens of the context, the end of text, tokens of " " + completion, the
 * end of text. `tokenizer` is the model's (GPT-2's byte-level BPE); its end of text separates and ends.
 */
export function encodeCompletion(
  tokenizer: Pick<Tokenizer, "encode" | "eosId">,
  { context, completion }: CompletionText,
  { maxLength }: Pick<CompletionOptions, "maxLength"> = {},
): Completion {
  const { eosId } = tokenizer;
  if (eosId === null) throw new RangeError("completion: the tokenizer has no token for the end of a text");
  const plain = (text: string): Int32Array => tokenizer.encode(text, null, { specials: false });
  return joinCompletion(plain(context), plain(` ${completion}`), {
    separator: eosId,
    end: eosId,
    ...(maxLength !== undefined && { maxLength }),
  });
}

/** Rows of texts padded at the end, and the places whose next token is learned. */
export interface CompletionBatch {
  /** [size, length]. */
  readonly inputIds: Int32Array;
  /** 1 for a token, 0 for padding [size, length]. */
  readonly attentionMask: Int32Array;
  /** Places among size · length whose next token belongs to a completion, then 0s up to a round number [places]. */
  readonly places: Int32Array;
  /** The tokens that come next [places]. */
  readonly labels: Int32Array;
  /** 1 for a place, 0 for what rounds the number up [places]. */
  readonly weights: Float32Array;
  readonly size: number;
  readonly length: number;
}

export interface CollateCompletionsOptions {
  readonly padId: number;
  /** Lengths are rounded up to a multiple of this. Default 8. */
  readonly multiple?: number;
  /** So is the number of places. Default 64. */
  readonly placesMultiple?: number;
}

/** A batch of the texts at `indices`, in their order. */
export function collateCompletions(
  examples: readonly Completion[],
  indices: ArrayLike<number>,
  { padId, multiple = 8, placesMultiple = 64 }: CollateCompletionsOptions,
): CompletionBatch {
  const rows = Array.from(indices, (index) => {
    const example = examples[index];
    if (!example) throw new RangeError(`batches: there is no example ${index}; there are ${examples.length}`);
    return example;
  });
  const size = rows.length;
  const length = paddedLength(Math.max(0, ...rows.map(({ ids }) => ids.length)), { multiple });
  const inputIds = new Int32Array(size * length).fill(padId);
  const attentionMask = new Int32Array(size * length);
  const places: number[] = [];
  const labels: number[] = [];
  rows.forEach(({ ids, start }, row) => {
    inputIds.set(ids, row * length);
    attentionMask.fill(1, row * length, row * length + ids.length);
    for (let t = start; t < ids.length; t++) {
      places.push(row * length + t - 1);
      labels.push(ids[t] as number); // t < ids.length
    }
  });
  const n = Math.ceil(places.length / placesMultiple) * placesMultiple;
  const padded = (values: readonly number[]): Int32Array => {
    const all = new Int32Array(n);
    all.set(values);
    return all;
  };
  const weights = new Float32Array(n).fill(1, 0, places.length);
  return { inputIds, attentionMask, places: padded(places), labels: padded(labels), weights, size, length };
}
