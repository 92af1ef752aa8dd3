/** Counts of token pairs, with the most frequent pair at hand while the counts change. */

/** A pair and its count at the time of asking. */
export interface PairCount {
  readonly left: number;
  readonly right: number;
  readonly count: number;
}

interface Entry {
  readonly pair: number;
  /** The count when the entry was queued; the entry is stale when the pair's count has changed since. */
  readonly count: number;
}

/** Room for the ids of a pair in one exact integer. */
const STRIDE = 2 ** 26;

/**
 * A binary heap over pair counts with lazy deletion: a change queues the pair again, and entries whose count
 * is out of date are dropped when they come up. The order is by count, then by the smaller (left, right).
 */
export class PairQueue {
  readonly #counts = new Map<number, number>();
  /** Which words held the pair at some time; may list words that no longer do. */
  readonly #words = new Map<number, Set<number>>();
  readonly #changed = new Set<number>();
  readonly #heap: Entry[] = [];

  /** Adds `count`, which may be negative, to a pair that occurs in word `word`. */
  add(left: number, right: number, count: number, word: number): void {
    const pair = left * STRIDE + right;
    this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + count);
    this.#changed.add(pair);
    if (count < 0) return;
    const words = this.#words.get(pair);
    if (words === undefined) this.#words.set(pair, new Set([word]));
    else words.add(word);
  }

  /** The words that hold or held the pair, in the order in which they were added. */
  wordsWith(left: number, right: number): readonly number[] {
    return [...(this.#words.get(left * STRIDE + right) ?? [])];
  }

  /** Forgets a pair that has been merged away. */
  drop(left: number, right: number): void {
    const pair = left * STRIDE + right;
    this.#counts.delete(pair);
    this.#words.delete(pair);
    this.#changed.delete(pair);
  }

  /** Takes out the most frequent pair; undefined when no pair is left. */
  pop(): PairCount | undefined {
    this.#queueChanges();
    for (;;) {
      const top = this.#takeTop();
      if (top === undefined) return undefined;
      if (this.#counts.get(top.pair) !== top.count) continue;
      return { left: Math.floor(top.pair / STRIDE), right: top.pair % STRIDE, count: top.count };
    }
  }

  #queueChanges(): void {
    for (const pair of this.#changed) {
      const count = this.#counts.get(pair) ?? 0;
      if (count > 0) this.#push({ pair, count });
      else this.#counts.delete(pair);
    }
    this.#changed.clear();
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const up = (i - 1) >> 1;
      const parent = heap[up] as Entry; // 0 <= up < length
      if (!before(entry, parent)) break;
      heap[i] = parent;
      i = up;
    }
    heap[i] = entry;
  }

  #takeTop(): Entry | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      const right = heap[child + 1];
      const left = heap[child];
      if (left === undefined) break;
      let next = left;
      if (right !== undefined && before(right, left)) {
        child += 1;
        next = right;
      }
      if (!before(next, last)) break;
      heap[i] = next;
      i = child;
    }
    heap[i] = last;
    return top;
  }
}

/** Whether `a` leaves the queue before `b`. */
function before(a: Entry, b: Entry): boolean {
  return a.count > b.count || (a.count === b.count && a.pair < b.pair);
}
