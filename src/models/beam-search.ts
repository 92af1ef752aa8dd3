import { full, logSoftmax, noGrad, scatterAdd, type Tensor, tensor, tidy, topK } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { CausalLM } from "./causal-lm.ts";
import type { Continuation } from "./generate.ts";
import { expectRoom, GrowingTexts } from "./growing-texts.ts";

export interface BeamOptions {
  /** K, how many beginnings of each text are followed. */
  readonly beams: number;
  readonly maxNew: number;
  /** Tokens that end a text. */
  readonly stopTokens?: readonly number[] | undefined;
  /** A finished text's score is Σ log p / length ^ lengthPenalty, the length with the stop token. Default 1. */
  readonly lengthPenalty?: number | undefined;
  /** No n new tokens in a row come twice; the other tokens' probabilities are renormalised. Default 0: no such rule. */
  readonly noRepeatNgram?: number | undefined;
  /** Whether keys and values of earlier tokens are kept on the device. Default true. */
  readonly cache?: boolean | undefined;
}

export interface BeamContinuation extends Continuation {
  /** Σ log p of the new tokens / length ^ lengthPenalty. */
  readonly score: number;
}

/** The beginning of a text. */
interface Beam {
  readonly text: number;
  readonly tokens: readonly number[];
  readonly sum: number;
}

/** A beam with one token more, before the best are kept. */
interface Candidate extends Beam {
  /** The row of the beam that it continues. */
  readonly row: number;
}

/**
 * The continuations of best score that beam search finds. Each step keeps the K candidates of largest Σ log p of each
 * text, over all its beams; one that ends in a stop token is finished, and takes the place of a beam in that step. After
 * `maxNew` tokens the living ones are finished too. Paper: the decoding of the authors' NLG code.
 */
export async function beamSearch(
  model: CausalLM,
  prompts: readonly ArrayLike<number>[],
  options: BeamOptions,
): Promise<BeamContinuation[]> {
  const { beams: K, maxNew, stopTokens = [], lengthPenalty = 1, noRepeatNgram = 0, cache } = options;
  expectRoom("beamSearch", model, prompts, maxNew);
  if (!Number.isInteger(K) || K < 1)
    throw new ShapeError(`beamSearch: beams is ${K}, expected a whole number of 1 or more`);
  if (K > model.vocabularySize)
    throw new ShapeError(
      `beamSearch: beams is ${K}; a text goes on in ${model.vocabularySize} ways, so ask for that many at most`,
    );
  if (!Number.isInteger(noRepeatNgram) || noRepeatNgram < 0)
    throw new ShapeError(`beamSearch: noRepeatNgram is ${noRepeatNgram}, expected a whole number`);
  if (!Number.isFinite(lengthPenalty))
    throw new ShapeError(`beamSearch: lengthPenalty is ${lengthPenalty}, expected a number`);
  if (prompts.length === 0) return [];
  const stops = new Set(stopTokens);
  const finished = prompts.map(() => new Best(lengthPenalty));
  const texts = new GrowingTexts(model, prompts, { maxNew, cache });
  let living: Beam[] = prompts.map((_, text) => ({ text, tokens: [], sum: 0 }));
  try {
    for (let step = 0; step < maxNew && living.length > 0; step++) {
      const kept = await keepBest(texts.next(), living, K, noRepeatNgram);
      // Where every token would repeat something, beams end as they are.
      const goesOn = new Set(kept.map(({ text }) => text));
      for (const beam of living) if (!goesOn.has(beam.text)) finished[beam.text]?.offer(beam, false);
      const grown: Candidate[] = [];
      for (const candidate of kept) {
        const isOver = stops.has(candidate.tokens.at(-1) as number);
        if (isOver || step === maxNew - 1) finished[candidate.text]?.offer(candidate, isOver);
        else grown.push(candidate);
      }
      living = grown;
      if (grown.length === 0) break;
      texts.select(grown.map(({ row }) => row));
      texts.push(Int32Array.from(grown, ({ tokens }) => tokens.at(-1) as number));
    }
  } finally {
    texts.dispose();
  }
  return finished.map((best) => best.result());
}

/** The best of the finished continuations of one text, of equals the first. */
class Best {
  readonly #lengthPenalty: number;
  #score = Number.NEGATIVE_INFINITY;
  #tokens: readonly number[] = [];
  #stopped = false;

  constructor(lengthPenalty: number) {
    this.#lengthPenalty = lengthPenalty;
  }

  offer({ tokens, sum }: Beam, stopped: boolean): void {
    const score = sum / tokens.length ** this.#lengthPenalty;
    if (!(score > this.#score)) return;
    this.#score = score;
    this.#tokens = tokens;
    this.#stopped = stopped;
  }

  result(): BeamContinuation {
    return { ids: Int32Array.from(this.#tokens), stopped: this.#stopped, score: this.#score };
  }
}

/** The K best continuations of each text's beams by one token, the best first; those of one text stand together. */
async function keepBest(
  logits: Tensor,
  beams: readonly Beam[],
  K: number,
  noRepeatNgram: number,
): Promise<Candidate[]> {
  const banned = beams.map(({ tokens }) => repeating(tokens, noRepeatNgram));
  const k = Math.min(K, logits.shape[1] as number);
  const { values, indices } = noGrad(() => tidy(() => topK(logSoftmax(without(logits, banned)), k)));
  logits.dispose();
  const [scores, tokens] = await Promise.all([values.data(), indices.data()]);
  values.dispose();
  indices.dispose();
  const candidates = new Map<number, Candidate[]>();
  for (const [row, beam] of beams.entries()) {
    const own = candidates.get(beam.text) ?? [];
    candidates.set(beam.text, own);
    for (let i = row * k; i < (row + 1) * k; i++) {
      const token = tokens[i] as number;
      if (banned[row]?.has(token)) continue;
      own.push({
        text: beam.text,
        row,
        tokens: [...beam.tokens, token],
        sum: beam.sum + (scores[i] as number),
      });
    }
  }
  return [...candidates.values()].flatMap((own) => own.sort((a, b) => b.sum - a.sum).slice(0, K));
}

/** Tokens after which the last n tokens would be there twice. */
function repeating(tokens: readonly number[], n: number): ReadonlySet<number> {
  const found = new Set<number>();
  if (n === 0) return found;
  const start = tokens.length - (n - 1);
  for (let i = 0; i + n <= tokens.length; i++)
    if (tokens.slice(start).every((token, j) => token === tokens[i + j]))
      found.add(tokens[i + n - 1] as number);
  return found;
}

/** What a logit is lowered by: its probability is 0 in f32 whatever the others are. */
const FORBIDDEN = -1e30;

/** logits [rows, V] without some tokens of each row: the softmax of the others is renormalised. */
function without(logits: Tensor, banned: readonly ReadonlySet<number>[]): Tensor {
  const most = Math.max(...banned.map(({ size }) => size));
  if (most === 0) return logits;
  // Places that a row does not need are out of range, and so change nothing.
  const places = new Int32Array(banned.length * most).fill(logits.shape[1] as number);
  for (const [row, tokens] of banned.entries()) places.set([...tokens], row * most);
  const shape = [banned.length, most];
  return scatterAdd(logits, 1, tensor(logits.gpu, places, shape), full(logits.gpu, shape, FORBIDDEN));
}
