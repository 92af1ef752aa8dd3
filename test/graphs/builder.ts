// What a drawn op chooses its inputs from: the values that a graph has so far, and new leaves.
import { generator, normal, sizeOf } from "../ops-table/row.ts";
import type { RefTensor } from "../reference/index.ts";
import type { Leaf } from "./graph.ts";

export interface Known {
  readonly id: number;
  readonly value: RefTensor;
}

/** Most elements of a value: central differences of a whole graph stay cheap. */
export const MOST_ELEMENTS = 128;
const SIZES = [2, 3, 5, 2, 3, 5, 1, 4, 4, 7, 8];

export class Builder {
  readonly leaves: Leaf[] = [];
  readonly known: Known[] = [];
  readonly #random: () => number;
  #nextId = 0;

  constructor(seed: number) {
    this.#random = generator(seed);
  }

  nextId(): number {
    return this.#nextId++;
  }

  integer(n: number): number {
    return Math.floor(this.#random() * n);
  }

  chance(p: number): boolean {
    return this.#random() < p;
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.integer(list.length)];
    if (item === undefined) throw new Error("graphs: nothing to pick from");
    return item;
  }

  size(): number {
    return this.pick(SIZES);
  }

  /** A shape of the given rank, or of a random one of up to four. */
  shape(rank = this.pick([0, 1, 1, 2, 2, 2, 3, 3, 3, 4])): number[] {
    for (;;) {
      const shape = Array.from({ length: rank }, () => this.size());
      if (sizeOf(shape) <= MOST_ELEMENTS) return shape;
    }
  }

  /** A new leaf, four of five times with a gradient. */
  leaf(shape: readonly number[], std = 1): Known {
    return this.leafOf(normal(shape, 1 + this.integer(2 ** 30), { std }));
  }

  leafOf(value: RefTensor): Known {
    const id = this.nextId();
    const leaf = { id, value, needsGradient: this.chance(0.8) };
    this.leaves.push(leaf);
    this.known.push(leaf);
    return leaf;
  }

  /** A known value that fits, of the later ones sooner; null where none does. */
  any(fits: (shape: readonly number[]) => boolean = () => true): Known | null {
    const list = this.known.filter(({ value }) => fits(value.shape));
    if (list.length === 0) return null;
    return list[Math.max(this.integer(list.length), this.integer(list.length))] ?? null;
  }

  /** A known value of this shape, or a new leaf. */
  like(shape: readonly number[], std?: number): Known {
    const same = this.chance(0.6) ? this.any((other) => String(other) === String(shape)) : null;
    return same ?? this.leaf(shape, std);
  }
}
