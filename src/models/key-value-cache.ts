import type { Gpu } from "../array/index.ts";
import {
  cacheWrite,
  indexSelect,
  keep,
  noGrad,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

export interface CacheSize {
  readonly layers: number;
  /** Texts of the batch. */
  readonly rows: number;
  /** The most tokens of a text, padding included. */
  readonly capacity: number;
  /** Channels of the keys, and of the values. */
  readonly channels: number;
}

interface CachedLayer {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Keys and values of the tokens that a model has seen, on the GPU: two tensors [rows, capacity, channels] for each layer,
 * of which the first `length` rows are in use. It lives until it is disposed.
 */
export class KeyValueCache {
  readonly gpu: Gpu;
  readonly capacity: number;
  readonly #layers: CachedLayer[];
  #length = 0;

  constructor(gpu: Gpu, { layers, rows, capacity, channels }: CacheSize) {
    this.gpu = gpu;
    this.capacity = capacity;
    const make = (): Tensor => keep(zeros(gpu, [rows, capacity, channels]));
    this.#layers = Array.from({ length: layers }, () => ({ keys: make(), values: make() }));
  }

  /** Tokens that are held, padding included. */
  get length(): number {
    return this.#length;
  }

  /** Appends the keys and values of some tokens to those of a layer, and gives them all: only the first `length` + T rows count. */
  append(layer: number, keys: Tensor, values: Tensor): CachedLayer & { readonly keyLength: number } {
    const own = this.#layers[layer];
    if (!own) throw new ShapeError(`cache: layer ${layer}, there are ${this.#layers.length}`);
    cacheWrite(own.keys, keys, this.#length);
    cacheWrite(own.values, values, this.#length);
    return { ...own, keyLength: this.#length + (keys.shape[1] as number) };
  }

  /** Says that every layer has appended so many tokens; of a negative number, that the last ones are taken back. */
  advance(tokens: number): void {
    this.#length += tokens;
  }

  /** Keeps the texts at `rows`, in that order; one may be there several times. A copy of the cache, unless nothing changes. */
  select(rows: readonly number[]): void {
    const [first] = this.#layers;
    if (!first || (first.keys.shape[0] === rows.length && rows.every((row, i) => row === i))) return;
    noGrad(() =>
      tidy(() => {
        const indices = tensor(this.gpu, Int32Array.from(rows));
        for (const [i, { keys, values }] of this.#layers.entries()) {
          this.#layers[i] = {
            keys: keep(indexSelect(keys, 0, indices)),
            values: keep(indexSelect(values, 0, indices)),
          };
          keys.dispose();
          values.dispose();
        }
      }),
    );
  }

  dispose(): void {
    for (const { keys, values } of this.#layers) {
      keys.dispose();
      values.dispose();
    }
  }
}
