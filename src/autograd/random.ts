import type { Draw } from "../ops/index.ts";
import type { Tensor } from "./tensor.ts";

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;

/** Upper 32 bits of a 32 × 32 bit product. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const carry = a0 * b1 + (middle % 0x10000);
  return (a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

export type Words = [number, number, number, number];

/** Philox4x32-10 (Salmon et al. 2011): four random words from a counter and a key. Twin of shaders/lib/philox.wgsl. */
export function philox(counter: readonly number[], key: readonly number[]): Words {
  let [c0, c1, c2, c3] = counter as Words;
  let [k0, k1] = key as [number, number];
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(M0, c0);
    const low0 = Math.imul(M0, c0) >>> 0;
    const high1 = multiplyHigh(M1, c2);
    const low1 = Math.imul(M1, c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * An immutable stream of random numbers: a seed and a name. `fold` gives a stream of its own for a purpose or a
 * layer. Numbers are found by counter, so drawing changes nothing, and resuming needs no state.
 */
export class Stream {
  readonly seed: number;
  readonly name: number;

  private constructor(seed: number, name: number) {
    this.seed = seed >>> 0;
    this.name = name;
  }

  static seed(seed: number): Stream {
    return new Stream(seed, 0);
  }

  fold(part: string | number): Stream {
    let name = this.name;
    const words = typeof part === "number" ? [part >>> 0] : [...new TextEncoder().encode(part), 0x100];
    for (const word of words) name = philox([word, name, 0, 0], [0x9e3779b9, 0x7f4a7c15])[0];
    return new Stream(this.seed, name);
  }

  /** Four words at a counter of up to four numbers. */
  words(...counter: number[]): Words {
    return philox(
      [counter[0] ?? 0, counter[1] ?? 0, counter[2] ?? 0, counter[3] ?? 0],
      [this.seed, this.name],
    );
  }

  /** An integer in 0..n-1 at a counter, without bias that 32 bits could show. */
  integer(n: number, ...counter: number[]): number {
    return Math.floor((this.words(...counter)[0] / 2 ** 32) * n);
  }

  /** `n` numbers, uniform in [low, high). */
  uniform(n: number, low = 0, high = 1): Float32Array<ArrayBuffer> {
    const result = new Float32Array(n);
    for (let i = 0; i < n; i += 4) {
      const words = this.words(i / 4);
      for (let j = 0; j < Math.min(4, n - i); j++)
        result[i + j] = low + ((words[j] as number) / 2 ** 32) * (high - low);
    }
    return result;
  }

  /** `n` normal numbers, by Box and Muller in float64. */
  normal(n: number, mean = 0, std = 1): Float32Array<ArrayBuffer> {
    const result = new Float32Array(n);
    for (let i = 0; i < n; i += 2) {
      const [a, b] = this.words(i / 2);
      const radius = std * Math.sqrt(-2 * Math.log((a + 1) / 2 ** 32));
      const angle = (2 * Math.PI * b) / 2 ** 32;
      result[i] = mean + radius * Math.cos(angle);
      if (i + 1 < n) result[i + 1] = mean + radius * Math.sin(angle);
    }
    return result;
  }
}

/** Randomness of one forward pass on the GPU: what dropout is given. No Dropout acts without one. */
export interface DrawSource {
  readonly stream: Stream;
  /** u32 [seed, step]: an input slot, written once a step. */
  readonly clock: Tensor;
  /** Examples of one pass; a batch of two passes has twice as many rows. */
  readonly examples: number;
  readonly firstExample?: number;
  readonly firstPass?: number;
}

/** The draw of one purpose: `drawOf(source, "dropout", layer)`. */
export function drawOf(source: DrawSource, ...path: (string | number)[]): Draw {
  const { name } = path.reduce<Stream>((stream, part) => stream.fold(part), source.stream);
  const { clock, examples, firstExample = 0, firstPass = 0 } = source;
  return { clock: clock.array, stream: name, examples, firstExample, firstPass };
}
