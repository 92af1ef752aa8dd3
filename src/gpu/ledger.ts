/** A piece of memory as the ledger knows it. */
export interface Holding {
  /** As taken from the pool: a size class, not the array's own bytes. */
  readonly pooledBytes: number;
  /** Of the array that it was made for. */
  readonly shape: readonly number[];
  readonly dtype: string;
  scope: string;
}

/** Bytes of one scope, as taken from the pool. */
export interface ScopeMemory {
  readonly liveBytes: number;
  /** The largest `liveBytes` since the device was opened or peaks were reset. */
  readonly peakBytes: number;
  /** Arrays that are alive. */
  readonly count: number;
}

/** Live arrays of one shape, type and scope. */
export interface LargeTensor {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly scope: string;
  readonly count: number;
  /** Of all of them together. */
  readonly bytes: number;
}

/** The scope of what has none. */
export const OTHER = "other";
/** The scope of what is only alive for backward, among others. */
export const SAVED = "saved for backward";

/** What is alive on one device, by scope. A set and a few additions for each array. */
export class MemoryLedger {
  /** The scope of arrays made now. */
  current = OTHER;
  readonly #live = new Set<Holding>();
  readonly #scopes = new Map<string, { liveBytes: number; peakBytes: number; count: number }>();

  add(holding: Holding): void {
    this.#live.add(holding);
    this.#enter(holding);
  }

  remove(holding: Holding): void {
    this.#live.delete(holding);
    this.#leave(holding);
  }

  move(holding: Holding, scope: string): void {
    this.#leave(holding);
    holding.scope = scope;
    this.#enter(holding);
  }

  resetPeaks(): void {
    for (const [name, scope] of this.#scopes) {
      if (scope.count === 0) this.#scopes.delete(name);
      scope.peakBytes = scope.liveBytes;
    }
  }

  scopes(): Record<string, ScopeMemory> {
    return Object.fromEntries([...this.#scopes].map(([name, scope]) => [name, { ...scope }]));
  }

  /** The `n` largest groups of live arrays that are alike. */
  largest(n: number): LargeTensor[] {
    const groups = new Map<string, { bytes: number; count: number; one: Holding }>();
    for (const holding of this.#live) {
      const { shape, dtype, scope, pooledBytes } = holding;
      const key = `${dtype}|${shape.join(",")}|${scope}`;
      const group = groups.get(key);
      if (!group) groups.set(key, { bytes: pooledBytes, count: 1, one: holding });
      else {
        group.bytes += pooledBytes;
        group.count++;
      }
    }
    return [...groups.values()]
      .sort((a, b) => b.bytes - a.bytes)
      .slice(0, n)
      .map(({ bytes, count, one: { shape, dtype, scope } }) => ({ shape, dtype, scope, count, bytes }));
  }

  #enter({ scope: name, pooledBytes }: Holding): void {
    let scope = this.#scopes.get(name);
    if (!scope) {
      scope = { liveBytes: 0, peakBytes: 0, count: 0 };
      this.#scopes.set(name, scope);
    }
    scope.liveBytes += pooledBytes;
    scope.count++;
    if (scope.liveBytes > scope.peakBytes) scope.peakBytes = scope.liveBytes;
  }

  #leave({ scope: name, pooledBytes }: Holding): void {
    const scope = this.#scopes.get(name);
    if (!scope) return;
    scope.liveBytes -= pooledBytes;
    scope.count--;
  }
}

/** "3 x f32 [150, 1000] (parameters) 1.7 MiB, ..." */
export function showLargest(tensors: readonly LargeTensor[]): string {
  return tensors
    .filter(({ bytes }) => bytes > 2 ** 16) // what is not 0.1 MiB is no help
    .map(({ shape, dtype, scope, count, bytes }) => {
      const times = count > 1 ? `${count} x ` : "";
      return `${times}${dtype} [${shape.join(", ")}] (${scope}) ${megabytes(bytes)}`;
    })
    .join(", ");
}

export function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
