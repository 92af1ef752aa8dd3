import { argmax, noGrad, type Stream, type Tensor, tidy, topK as topKOf } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { CausalLM } from "./causal-lm.ts";
import { expectRoom, GrowingTexts } from "./growing-texts.ts";

export interface SamplingOptions {
  /** What logits are divided by. Default 1. */
  readonly temperature?: number | undefined;
  /** Only the k likeliest tokens. Default: all. */
  readonly topK?: number | undefined;
  /** Only the likeliest tokens that together have this share. Default 1: all. */
  readonly topP?: number | undefined;
  /** Numbers are drawn at the counter (text, step): a text has the same ones in whatever batch. */
  readonly stream: Stream;
}

export interface NewToken {
  /** Which prompt it continues. */
  readonly text: number;
  readonly token: number;
  /** Counted from 0. */
  readonly step: number;
}

export interface GenerateOptions {
  /** The most new tokens of a text; with the prompt's they must have positions. */
  readonly maxNew: number;
  /** Tokens that end a text. Default: none. */
  readonly stopTokens?: readonly number[] | undefined;
  /** Draws tokens. Default: the likeliest one each time, of equals the first. */
  readonly sampling?: SamplingOptions | undefined;
  /** Is told of each token as soon as it is known. */
  readonly onToken?: ((token: NewToken) => void) | undefined;
  /** The number of the first prompt, as `stream` and `onToken` count them: for batches of a longer list. Default 0. */
  readonly firstText?: number | undefined;
  /** Whether keys and values of earlier tokens are kept on the device. Default true. */
  readonly cache?: boolean | undefined;
}

export interface Continuation {
  /** The new tokens, with the one that ended the text. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** Whether a stop token ended it. */
  readonly stopped: boolean;
}

/**
 * Continues texts, given as token ids of any lengths, in one batch. The likeliest token is found on the device, so that
 * only ids come back; of sampled ones the k likeliest logits do, or all where there is no `topK`.
 *
 *     const [text] = await generate(model, [tokenizer.encode("Once")], { maxNew: 40 });
 */
export async function generate(
  model: CausalLM,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions,
): Promise<Continuation[]> {
  const { maxNew, stopTokens = [], sampling, onToken, firstText = 0, cache } = options;
  expectRoom("generate", model, prompts, maxNew);
  if (sampling) expectSampling(sampling);
  const stops = new Set(stopTokens);
  const made = prompts.map(() => [] as number[]);
  const stopped = prompts.map(() => false);
  if (prompts.length === 0) return [];
  const texts = new GrowingTexts(model, prompts, { maxNew, cache });
  let living = [...prompts.keys()];
  try {
    for (let step = 0; step < maxNew && living.length > 0; step++) {
      const places = living.map((text) => firstText + text);
      const logits = texts.next();
      const { ids, onDevice } = await (sampling
        ? sampled(logits, sampling, places, step)
        : likeliest(logits));
      const left: number[] = [];
      for (const [row, text] of living.entries()) {
        const token = ids[row] as number;
        made[text]?.push(token);
        stopped[text] = stops.has(token);
        if (!stopped[text]) left.push(row);
        onToken?.({ text: firstText + text, token, step });
      }
      texts.push(onDevice ?? ids);
      onDevice?.dispose();
      if (left.length < living.length && left.length > 0) texts.select(left);
      living = left.map((row) => living[row] as number);
    }
  } finally {
    texts.dispose();
  }
  return made.map((ids, i) => ({ ids: Int32Array.from(ids), stopped: stopped[i] === true }));
}

interface Chosen {
  readonly ids: Int32Array<ArrayBuffer>;
  /** The same on the device, where they were chosen there. */
  readonly onDevice: Tensor | null;
}

async function likeliest(logits: Tensor): Promise<Chosen> {
  const onDevice = argmax(logits, -1);
  logits.dispose();
  return { ids: (await onDevice.data()) as Int32Array<ArrayBuffer>, onDevice };
}

async function sampled(
  logits: Tensor,
  { temperature = 1, topK, topP = 1, stream }: SamplingOptions,
  texts: readonly number[],
  step: number,
): Promise<Chosen> {
  const vocabulary = logits.shape[1] as number;
  const k = Math.min(topK ?? vocabulary, vocabulary);
  const { values, indices } = await (k < vocabulary ? readBest(logits, k) : readAll(logits));
  const ids = Int32Array.from(texts, (text, row) => {
    const own = values.subarray(row * k, (row + 1) * k);
    const [high, low] = stream.words(text, step);
    // 53 bits: every number below 1 that a float64 can tell apart.
    const place = drawFrom(own, temperature, topP, ((high >>> 5) * 2 ** 26 + (low >>> 6)) / 2 ** 53);
    return indices ? (indices[row * k + place] as number) : place;
  });
  return { ids, onDevice: null };
}

interface Candidates {
  readonly values: Float32Array;
  /** Their tokens; null: those of the vocabulary in order. */
  readonly indices: Int32Array | null;
}

async function readAll(logits: Tensor): Promise<Candidates> {
  const values = (await logits.data()) as Float32Array;
  logits.dispose();
  return { values, indices: null };
}

async function readBest(logits: Tensor, k: number): Promise<Candidates> {
  const { values, indices } = noGrad(() => tidy(() => topKOf(logits, k)));
  logits.dispose();
  const read = await Promise.all([values.data(), indices.data()]);
  values.dispose();
  indices.dispose();
  return { values: read[0] as Float32Array, indices: read[1] as Int32Array };
}

/**
 * The place of a logit drawn by its share of Σ exp(logit / temperature), of the fewest likeliest ones that together have
 * the share topP. `u` in [0, 1) decides.
 */
export function drawFrom(logits: Float32Array, temperature: number, topP: number, u: number): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) largest = Math.max(largest, logit);
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  let total = 0;
  for (const weight of weights) total += weight;
  const places = topP < 1 ? nucleus(weights, total, topP) : null;
  let rest = u * (places ? places.reduce((sum, place) => sum + (weights[place] as number), 0) : total);
  const n = places?.length ?? weights.length;
  let last = 0;
  for (let i = 0; i < n; i++) {
    const place = places ? (places[i] as number) : i;
    const weight = weights[place] as number;
    if (weight > 0) last = place;
    rest -= weight;
    if (rest < 0) return place;
  }
  return last; // Rounding has left a little.
}

/** The fewest likeliest places whose weights are `share` of the total, of equals the first. */
function nucleus(weights: Float64Array, total: number, share: number): number[] {
  // Weights below this are less than what is left out, all together: none of them is needed.
  const least = ((1 - share) * total) / weights.length;
  const places: number[] = [];
  for (const [place, weight] of weights.entries()) if (weight >= least) places.push(place);
  places.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
  let sum = 0;
  const needed = places.findIndex((place) => {
    sum += weights[place] as number;
    return sum >= share * total;
  });
  return needed < 0 ? places : places.slice(0, needed + 1);
}

function expectSampling({ temperature = 1, topK = 1, topP = 1 }: SamplingOptions): void {
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new ShapeError(
      `generate: temperature is ${temperature}, expected more than 0 (none: leave sampling out)`,
    );
  if (!Number.isInteger(topK) || topK < 1)
    throw new ShapeError(`generate: topK is ${topK}, expected a whole number of 1 or more`);
  if (!(topP > 0 && topP <= 1)) throw new ShapeError(`generate: topP is ${topP}, expected 0 < topP <= 1`);
}
