import { median } from "../src/ops/race.ts";

export { median };

/** Sorted from the smallest, as a copy. */
function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

/** Median absolute deviation, as a share of the median. */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  return median(values.map((value) => Math.abs(value - middle))) / middle;
}

/**
 * The interval between two of the values that holds the true median in at least 95 of 100 cases, whatever the values'
 * distribution: the true median lies below k values or fewer as seldom as k heads or fewer come of n throws of a coin.
 * With fewer than six values it is their whole range, and holds it less often.
 */
export function medianInterval(values: readonly number[]): readonly [low: number, high: number] {
  const sorted = ascending(values);
  const n = sorted.length;
  let left = 0;
  let chance = 0.5 ** n; // of `left` heads
  let below = chance; // of `left` heads or fewer
  while (left + 1 < n / 2) {
    chance *= (n - left) / (left + 1);
    if (below + chance > 0.025) break;
    below += chance;
    left++;
  }
  return [sorted[left] ?? Number.NaN, sorted[n - 1 - left] ?? Number.NaN];
}
