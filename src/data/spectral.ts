/**
 * Word embeddings to start pretraining from: tokens that occur in the same lines get similar rows.
 * Without this start a small encoder did not learn polarity in the time of the recipe.
 */

import { topEigenpairs } from "./eigen.ts";
import { createRng } from "./random.ts";

export interface CooccurrenceOptions {
  /** The token ids of each line. */
  readonly lines: readonly ArrayLike<number>[];
  readonly vocabSize: number;
  /** Tokens in fewer lines than this get zeros. */
  readonly minCount?: number;
}

export interface SpectralOptions extends CooccurrenceOptions {
  /** The width of the embeddings. */
  readonly dim: number;
  /** The standard deviation of the factors over the whole table. */
  readonly std?: number;
  /** The standard deviation of the noise added to every row. */
  readonly jitter?: number;
  /** The standard deviation of the rows of tokens too rare to be factorised. */
  readonly rareStd?: number;
  readonly seed: number;
}

/** Adding this to a probability of tokens and of pairs keeps logarithms finite. */
const TOKEN_FLOOR = 1e-6;
const PAIR_FLOOR = 1e-9;

/**
 * Positive pointwise mutual information of tokens within a line: max(0, log(p(i, j) / (p(i) p(j)))).
 * A token counts once per line, and not with itself. Returns a symmetric table [vocabSize, vocabSize].
 */
export function cooccurrencePpmi({ lines, vocabSize, minCount = 20 }: CooccurrenceOptions): Float64Array {
  const V = vocabSize;
  const pairs = new Float64Array(V * V);
  const counts = countPairs(lines, V, pairs);
  for (let i = 0; i < V; i++) {
    const countI = counts[i] ?? 0;
    for (let j = 0; j < V; j++) {
      const countJ = counts[j] ?? 0;
      const at = i * V + j;
      const together = i === j ? 0 : (pairs[at] ?? 0) / lines.length;
      const apart = (countI / lines.length + TOKEN_FLOOR) * (countJ / lines.length + TOKEN_FLOOR);
      const isFrequent = countI >= minCount && countJ >= minCount;
      pairs[at] = isFrequent ? Math.max(0, Math.log((together + PAIR_FLOOR) / apart)) : 0;
    }
  }
  return pairs;
}

/** Adds to `pairs` in how many lines two tokens occur; returns in how many each one does. */
function countPairs(lines: readonly ArrayLike<number>[], V: number, pairs: Float64Array): Float64Array {
  const counts = new Float64Array(V);
  for (const [row, line] of lines.entries()) {
    const tokens = [...new Set(Array.from(line))];
    for (const i of tokens) {
      if (!Number.isInteger(i) || i < 0 || i >= V) {
        throw new RangeError(`spectral: row ${row} has the id ${i}, not one of 0 .. ${V - 1}`);
      }
      counts[i] = (counts[i] ?? 0) + 1;
      for (const j of tokens) pairs[i * V + j] = (pairs[i * V + j] ?? 0) + 1;
    }
  }
  return counts;
}

/**
 * Embeddings [vocabSize, dim]: the top eigenvectors of the PPMI table times the roots of their eigenvalues,
 * scaled to `std`, plus noise. Rows without any co-occurrence start at random.
 * A vocabulary of 1,024 takes one or two seconds; time grows with the cube of the frequent tokens.
 */
export function spectralEmbeddings(options: SpectralOptions): Float32Array {
  const { vocabSize, dim, std = 0.04, jitter = 0.005, rareStd = 0.02, seed } = options;
  const factors = factorise(cooccurrencePpmi(options), vocabSize, dim);
  const scale = std / (deviation(factors) + 1e-9);
  const rng = createRng(seed);
  const table = new Float32Array(vocabSize * dim);
  for (let token = 0; token < vocabSize; token++) {
    const row = factors.subarray(token * dim, (token + 1) * dim);
    let size = 0;
    for (const x of row) size += Math.abs(scale * x);
    const isRare = size < 1e-6;
    for (let j = 0; j < dim; j++) {
      const start = isRare ? rareStd * rng.normal() : scale * (row[j] ?? 0);
      table[token * dim + j] = start + jitter * rng.normal();
    }
  }
  return table;
}

/** U sqrt(L) for the top `dim` eigenpairs of a table [V, V], as [V, dim]; negative eigenvalues give zeros. */
function factorise(table: Float64Array, V: number, dim: number): Float64Array {
  const used: number[] = [];
  for (let i = 0; i < V; i++) if (table.subarray(i * V, (i + 1) * V).some((x) => x !== 0)) used.push(i);
  const factors = new Float64Array(V * dim);
  if (used.length === 0) return factors;
  const dense = Float64Array.from({ length: used.length ** 2 }, (_, at) => {
    const [i = 0, j = 0] = [used[Math.floor(at / used.length)], used[at % used.length]];
    return table[i * V + j] ?? 0;
  });
  const { values, vectors } = topEigenpairs(dense, used.length, Math.min(dim, used.length));
  for (const [k, value] of values.entries()) {
    const root = Math.sqrt(Math.max(0, value));
    for (const [i, token] of used.entries()) {
      factors[token * dim + k] = root * (vectors[k * used.length + i] ?? 0);
    }
  }
  return factors;
}

/** The standard deviation of all values. */
function deviation(values: Float64Array): number {
  let sum = 0;
  for (const x of values) sum += x;
  const mean = sum / values.length;
  let squares = 0;
  for (const x of values) squares += (x - mean) ** 2;
  return Math.sqrt(squares / values.length);
}
