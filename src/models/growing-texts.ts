import { concat, indexSelect, keep, noGrad, type Tensor, tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { CausalLM } from "./causal-lm.ts";
import { KeyValueCache } from "./key-value-cache.ts";

export interface GrowingOptions {
  /** The most tokens that each text gets. */
  readonly maxNew: number;
  /** Whether keys and values of earlier tokens are kept. Default true; false computes the whole text at each token. */
  readonly cache?: boolean | undefined;
}

/** Refuses texts that a model cannot continue by so many tokens. The last new one is never fed back. */
export function expectRoom(
  op: string,
  model: CausalLM,
  prompts: readonly ArrayLike<number>[],
  maxNew: number,
): void {
  if (!Number.isInteger(maxNew) || maxNew < 1)
    throw new ShapeError(`${op}: maxNew is ${maxNew}, expected a whole number of 1 or more`);
  for (const [i, { length }] of prompts.entries()) {
    if (length === 0)
      throw new ShapeError(`${op}: prompt ${i} has no token; begin with the one that begins texts`);
    const limit = model.positions - model.virtualTokens;
    const room = limit - length + 1;
    if (room < 1)
      throw new ShapeError(
        `${op}: prompt ${i} has ${length} tokens; the model has positions for ${limit} (cut it)`,
      );
    if (maxNew > room)
      throw new ShapeError(
        `${op}: ${maxNew} new tokens after the ${length} of prompt ${i}; the model has positions for ${limit}, so ask for ${room} at most`,
      );
  }
  const { vocabularySize } = model;
  for (const [i, prompt] of prompts.entries()) {
    for (let t = 0; t < prompt.length; t++) {
      const id = prompt[t] as number;
      if (!Number.isInteger(id) || id < 0 || id >= vocabularySize)
        throw new ShapeError(`${op}: prompt ${i} has the id ${id}, the vocabulary ${vocabularySize} tokens`);
    }
  }
}

/**
 * Texts of different lengths that grow by a token at a time, in one batch: padded at the left, so that all end together.
 * It lives until it is disposed.
 */
export class GrowingTexts {
  readonly #model: CausalLM;
  readonly #capacity: number;
  readonly #cache: KeyValueCache | null;
  /** i32 [rows, T]: what the model has not seen yet; without a cache everything. */
  #ids: Tensor;
  /** i32 [rows, capacity], 0 at padding; null: there is none. */
  #mask: Tensor | null = null;
  /** Tokens in front of each text that are padding. */
  #padding: number[];
  /** Tokens of all texts, padding included. */
  #length: number;

  constructor(
    model: CausalLM,
    prompts: readonly ArrayLike<number>[],
    { maxNew, cache = true }: GrowingOptions,
  ) {
    const length = prompts.reduce((most, prompt) => Math.max(most, prompt.length), 0);
    this.#model = model;
    this.#length = length;
    this.#capacity = length + maxNew - 1;
    this.#padding = prompts.map((prompt) => length - prompt.length);
    const ids = new Int32Array(prompts.length * length);
    for (const [row, prompt] of prompts.entries()) {
      for (let t = 0; t < prompt.length; t++)
        ids[(row + 1) * length - prompt.length + t] = prompt[t] as number;
    }
    const size = { rows: prompts.length, capacity: model.virtualTokens + this.#capacity };
    this.#cache = cache ? new KeyValueCache(model.gpu, { ...model.cacheShape, ...size }) : null;
    this.#ids = keep(tensor(model.gpu, ids, [prompts.length, length]));
    this.#mask = this.#maskOfPadding();
  }

  get rows(): number {
    return this.#padding.length;
  }

  /** Logits of the token that comes next: [rows, V]. */
  next(): Tensor {
    return noGrad(() =>
      tidy(() => {
        const T = this.#ids.shape[1] as number;
        const input = {
          inputIds: this.#ids,
          positionIds: tensor(this.#model.gpu, this.#positions(T), this.#ids.shape),
          attentionMask: this.#cache ? this.#mask : (this.#mask?.slice(1, 0, T).contiguous() ?? null),
        };
        const hidden = this.#model.hidden(input, this.#cache ? { cache: this.#cache } : {});
        const last = hidden.slice(1, T - 1, T);
        return this.#model.logits(last.reshape(this.rows, -1));
      }),
    );
  }

  /** Appends a token to each text: i32 [rows], on the device or not. */
  push(tokens: Tensor | Int32Array<ArrayBuffer>): void {
    const before = this.#ids;
    this.#ids = tidy(() => {
      const given = tokens instanceof Int32Array ? tensor(this.#model.gpu, tokens) : tokens;
      const column = given.reshape(this.rows, 1);
      return keep(this.#cache ? column : concat([before, column], 1));
    });
    before.dispose();
    this.#length++;
  }

  /** Keeps the texts at `rows`, in that order; one may be there several times. */
  select(rows: readonly number[]): void {
    if (rows.length === this.rows && rows.every((row, i) => row === i)) return;
    this.#cache?.select(rows);
    const [ids, mask] = [this.#ids, this.#mask];
    this.#ids = tidy(() => keep(indexSelect(ids, 0, tensor(ids.gpu, Int32Array.from(rows)))));
    this.#padding = rows.map((row) => this.#padding[row] as number);
    this.#mask = this.#maskOfPadding();
    ids.dispose();
    mask?.dispose();
  }

  dispose(): void {
    this.#cache?.dispose();
    this.#ids.dispose();
    this.#mask?.dispose();
  }

  /** Positions of the last T tokens of each text. */
  #positions(T: number): Int32Array<ArrayBuffer> {
    const seen = this.#length - T;
    const result = new Int32Array(this.rows * T);
    for (const [row, padding] of this.#padding.entries())
      for (let t = 0; t < T; t++) result[row * T + t] = Math.max(0, seen + t - padding);
    return result;
  }

  #maskOfPadding(): Tensor | null {
    if (this.#padding.every((n) => n === 0)) return null;
    const mask = new Int32Array(this.rows * this.#capacity).fill(1);
    for (const [row, padding] of this.#padding.entries())
      mask.fill(0, row * this.#capacity, row * this.#capacity + padding);
    return keep(tensor(this.#model.gpu, mask, [this.rows, this.#capacity]));
  }
}
