/**
 * Random numbers for the data: one mulberry32 stream per use, seeded by the caller.
 * The engine's own streams (dropout, initial weights) are counter-based and live elsewhere.
 */

/** A stream of draws; each call moves it on by one 32-bit number unless stated. */
export interface Rng {
  /** An integer in 0 .. 2^32 - 1. */
  u32(): number;
  /** A number in [0, 1), a multiple of 2^-32. */
  uniform(): number;
  /** floor(uniform * n): an integer in 0 .. n - 1. */
  int(n: number): number;
  /** One element of a list that is not empty. */
  pick<T>(list: readonly T[]): T;
  /** True with probability p. */
  chance(p: number): boolean;
  /** A standard normal number by Box and Muller's formula; draws two numbers. */
  normal(): number;
}

/** The mulberry32 generator: a 32-bit state that grows by a constant and is hashed at each draw. */
export function createRng(seed: number): Rng {
  let state = seed | 0;

  function u32(): number {
    state = (state + 0x6d2b79f5) | 0;
    let hash = Math.imul(state ^ (state >>> 15), state | 1);
    hash ^= hash + Math.imul(hash ^ (hash >>> 7), hash | 61);
    return (hash ^ (hash >>> 14)) >>> 0;
  }
  const uniform = (): number => u32() / 2 ** 32;
  const int = (n: number): number => Math.floor(uniform() * n);

  return {
    u32,
    uniform,
    int,
    pick<T>(list: readonly T[]): T {
      if (list.length === 0) throw new RangeError("random: cannot pick from an empty list");
      return list[int(list.length)] as T; // int(n) < n
    },
    chance: (p) => uniform() < p,
    normal() {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform())); // 1 - u is in (0, 1]
      return radius * Math.cos(2 * Math.PI * uniform());
    },
  };
}

/**
 * A seed that depends on all of its parts, in order: `mixSeed(seed, epoch)`, `mixSeed(seed, step, row)`.
 * Neighbouring parts give unrelated streams, which mulberry32 itself does not promise for neighbouring seeds.
 */
export function mixSeed(...parts: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const part of parts) {
    hash = Math.imul(hash ^ (part >>> 0), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash = (hash ^ (hash >>> 16)) + 0x27d4eb2f;
  }
  return hash >>> 0;
}

/** Puts the elements of `items` into a random order, in place (Fisher and Yates); returns `items`. */
export function shuffle<T extends unknown[] | Int32Array>(items: T, rng: Rng): T {
  for (let i = items.length - 1; i > 0; i--) {
    const j = rng.int(i + 1);
    const kept = items[i];
    items[i] = items[j];
    items[j] = kept;
  }
  return items;
}

/** The numbers 0 .. n - 1 in a random order. */
export function permutation(n: number, rng: Rng): Int32Array {
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  return shuffle(order, rng);
}
