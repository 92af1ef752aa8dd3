/** How far two rows of numbers agree, from -1 to 1; 0 where one of them does not vary. */

/** Pearson's r: cov(x, y) / (sd(x) sd(y)). */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>): number {
  if (x.length !== y.length) throw new RangeError(`pearson: ${x.length} numbers and ${y.length}`);
  const [mx, my] = [meanOf(x), meanOf(y)];
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [(x[i] as number) - mx, (y[i] as number) - my];
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  return xx === 0 || yy === 0 ? 0 : xy / Math.sqrt(xx * yy);
}

/** Spearman's ρ: Pearson's r of the ranks. */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>): number {
  return pearson(ranks(x), ranks(y));
}

/** Ranks from 1 on; equal numbers share the mean of theirs. */
function ranks(values: ArrayLike<number>): Float64Array {
  const order = Array.from(values, (_, i) => i).sort((a, b) => (values[a] as number) - (values[b] as number));
  const result = new Float64Array(values.length);
  for (let first = 0; first < order.length; ) {
    let next = first + 1;
    while (next < order.length && values[order[next] as number] === values[order[first] as number]) next++;
    for (let i = first; i < next; i++) result[order[i] as number] = (first + 1 + next) / 2;
    first = next;
  }
  return result;
}

/** Matthews' correlation of predicted and true classes: of two classes Pearson's r of 0 and 1, of more R_K. */
export function matthews(predicted: ArrayLike<number>, labels: ArrayLike<number>): number {
  const n = labels.length;
  if (predicted.length !== n) throw new RangeError(`matthews: ${predicted.length} classes and ${n}`);
  const [p, t] = [counts(predicted), counts(labels)];
  let hits = 0;
  for (let i = 0; i < n; i++) if (predicted[i] === labels[i]) hits++;
  let both = 0;
  for (const [label, count] of p) both += count * (t.get(label) ?? 0);
  const squares = (of: ReadonlyMap<number, number>) =>
    n * n - [...of.values()].reduce((sum, count) => sum + count * count, 0);
  const product = squares(p) * squares(t);
  return product === 0 ? 0 : (hits * n - both) / Math.sqrt(product);
}

/** 2 hits / (predicted + true) of class 1; 0 where neither has any. */
export function f1Score(predicted: ArrayLike<number>, labels: ArrayLike<number>): number {
  let [hits, named] = [0, 0];
  for (let i = 0; i < labels.length; i++) {
    if (predicted[i] === 1 && labels[i] === 1) hits++;
    named += (predicted[i] === 1 ? 1 : 0) + (labels[i] === 1 ? 1 : 0);
  }
  return named === 0 ? 0 : (2 * hits) / named;
}

function counts(values: ArrayLike<number>): Map<number, number> {
  const result = new Map<number, number>();
  for (let i = 0; i < values.length; i++)
    result.set(values[i] as number, (result.get(values[i] as number) ?? 0) + 1);
  return result;
}

function meanOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] as number;
  return sum / values.length;
}
