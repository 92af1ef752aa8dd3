/** Texts as one stream of tokens in rows of one length: how causal language models are trained without padding. */

import { validateIds } from "./batches.ts";
import { IGNORE } from "./masking.ts";

export interface PackOptions {
  /** Tokens of a row, T. */
  readonly length: number;
  /** The token that stands before each text and after the last: it ends one text and begins the next. */
  readonly endId: number;
}

/** Inputs and what follows each of them, row-major [rows, T]. */
export interface PackedBatch {
  readonly inputIds: Int32Array<ArrayBuffer>;
  readonly labels: Int32Array<ArrayBuffer>;
}

/**
 * `<end> text <end> text … <end>`, cut into rows of T tokens. Row r holds tokens r·T to r·T + T - 1 and predicts the
 * token behind each, so every token but the first is predicted once. What fills no row is left out.
 */
export class PackedTexts {
  readonly length: number;
  readonly rows: number;
  readonly #stream: Int32Array;

  constructor(texts: readonly ArrayLike<number>[], { length, endId }: PackOptions) {
    if (!(Number.isInteger(length) && length >= 1))
      throw new RangeError(`packing: length is ${length}, expected a whole number of 1 or more`);
    const size = texts.reduce((n, text) => n + text.length + 1, 1);
    this.#stream = new Int32Array(size).fill(endId);
    let at = 1;
    for (const text of texts) {
      this.#stream.set(text, at);
      at += text.length + 1;
    }
    this.length = length;
    this.rows = Math.floor((size - 1) / length);
    if (this.rows === 0)
      throw new RangeError(
        `packing: ${texts.length} texts have ${size} tokens with those between them; a row of ${length} needs ${length + 1} (give more text, or a shorter length)`,
      );
  }

  /** Tokens of the stream, end tokens and what fills no row included. */
  get tokens(): number {
    return this.#stream.length;
  }

  /** Checks that every id has a row in an embedding table. */
  validate(vocabSize: number): void {
    validateIds(this.#rowsOfStream(), vocabSize, "packing: row");
  }

  *#rowsOfStream(): Generator<Int32Array> {
    for (let at = 0; at < this.#stream.length; at += this.length)
      yield this.#stream.subarray(at, at + this.length);
  }

  /** The rows of these numbers; for -1 a row whose labels count for nothing. */
  batch(rows: ArrayLike<number>): PackedBatch {
    const T = this.length;
    const inputIds = new Int32Array(rows.length * T);
    const labels = new Int32Array(rows.length * T).fill(IGNORE);
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i] as number; // i < length
      if (row === -1) continue;
      if (!(Number.isInteger(row) && row >= 0 && row < this.rows))
        throw new RangeError(`packing: there is no row ${row}; there are ${this.rows}`);
      inputIds.set(this.#stream.subarray(row * T, (row + 1) * T), i * T);
      labels.set(this.#stream.subarray(row * T + 1, (row + 1) * T + 1), i * T);
    }
    return { inputIds, labels };
  }

  /** FNV-1a of all tokens, 8 hexadecimal digits: whether two streams are the same. */
  fingerprint(): string {
    let hash = 0x811c9dc5;
    for (const byte of new Uint8Array(this.#stream.buffer)) hash = Math.imul(hash ^ byte, 0x01000193);
    return (hash >>> 0).toString(16).padStart(8, "0");
  }
}

/** Cuts about `share` of the characters off the end, between texts or, within one, behind a line or a word. */
export function holdOut(
  texts: readonly string[],
  share: number,
): { readonly train: readonly string[]; readonly held: readonly string[] } {
  if (!(share > 0 && share < 1)) throw new RangeError(`holdOut: share is ${share}, expected 0 < share < 1`);
  const all = texts.reduce((n, text) => n + text.length, 0);
  let left = Math.ceil(all * share);
  const train = [...texts];
  const held: string[] = [];
  while (left > 0 && train.length > 0) {
    const text = train.pop() ?? "";
    if (text.length <= left && train.length > 0) {
      held.unshift(text);
      left -= text.length;
      continue;
    }
    const at = breakBefore(text, text.length - left);
    if (at > 0) train.push(text.slice(0, at));
    held.unshift(text.slice(at));
    left = 0;
  }
  return { train, held };
}

/** Behind the last line end before `at`; else behind the last blank; else `at` itself. */
function breakBefore(text: string, at: number): number {
  for (const sign of ["\n", " "]) {
    const found = text.lastIndexOf(sign, at - 1);
    if (found > at / 2) return found + 1;
  }
  return at;
}
