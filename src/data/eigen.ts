/**
 * The largest eigenvalues of a symmetric matrix, with eigenvectors, in float64.
 *
 * Householder reflections make the matrix tridiagonal (4/3 n^3 operations, nearly all of the time); bisection
 * by Sturm counts finds the eigenvalues; inverse iteration, orthogonal to the vectors found before, finds the
 * eigenvectors; the reflections carry them back. Reads of typed arrays are in range by the loop bounds: hence
 * `as number`.
 */

import { createRng, type Rng } from "./random.ts";

export interface Eigenpairs {
  /** In descending order [d]. */
  readonly values: Float64Array;
  /** One unit vector a row [d, n]; the component of largest size is positive. */
  readonly vectors: Float64Array;
}

/** A symmetric tridiagonal matrix: `diagonal` [n], `off` [n] with off[i] between i and i + 1. */
interface Tridiagonal {
  readonly diagonal: Float64Array;
  readonly off: Float64Array;
  /** A bound on the size of every eigenvalue. */
  readonly norm: number;
}

/** Row k holds the reflection I - v v^T of step k, which acts on the components after k. */
type Reflections = readonly Float64Array[];

/** The `d` largest eigenpairs of `matrix` [n, n]; only its lower triangle is read. 1 <= d <= n. */
export function topEigenpairs(matrix: Float64Array, n: number, d: number, { seed = 0 } = {}): Eigenpairs {
  if (matrix.length !== n * n)
    throw new RangeError(`eigen: ${matrix.length} values are no [${n}, ${n}] matrix`);
  if (!Number.isInteger(d) || d < 1 || d > n)
    throw new RangeError(`eigen: ${d} of ${n} eigenpairs asked for`);
  const largest = largestSize(matrix) || 1; // Squares of entries must neither overflow nor vanish.
  const rows = Array.from({ length: n }, (_, i) =>
    matrix.slice(i * n, i * n + i + 1).map((entry) => entry / largest),
  );
  const { tridiagonal, reflections } = tridiagonalise(rows);
  const values = largestEigenvalues(tridiagonal, d);
  const vectors = new Float64Array(d * n);
  const found: Float64Array[] = [];
  const rng = createRng(seed);
  for (let k = 0; k < d; k++) {
    const vector = vectors.subarray(k * n, (k + 1) * n);
    inverseIteration(tridiagonal, values[k] as number, found, vector, rng);
    found.push(vector);
  }
  for (const vector of found) {
    reflectBack(reflections, vector);
    makeLargestPositive(vector);
  }
  return { values: values.map((value) => value * largest), vectors };
}

function largestSize(values: Float64Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i] as number));
  return largest;
}

/** Reduces the lower triangle in `rows` (overwritten) to tridiagonal form. */
function tridiagonalise(rows: Float64Array[]): { tridiagonal: Tridiagonal; reflections: Reflections } {
  const n = rows.length;
  const diagonal = new Float64Array(n);
  const off = new Float64Array(n);
  const reflections: Float64Array[] = [];
  const w = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    diagonal[k] = rows[k]?.[k] as number;
    const v = new Float64Array(n);
    for (let i = k + 1; i < n; i++) v[i] = rows[i]?.[k] as number;
    off[k] = k + 1 < n ? reflectionOf(v, k + 1) : 0;
    reflections.push(v);
    applyFromBothSides(rows, v, w, k + 1);
  }
  let norm = 0;
  for (let i = 0; i < n; i++) {
    const left = i > 0 ? Math.abs(off[i - 1] as number) : 0;
    norm = Math.max(norm, Math.abs(diagonal[i] as number) + left + Math.abs(off[i] as number));
  }
  return { tridiagonal: { diagonal, off, norm }, reflections };
}

/**
 * Turns x = v[start..] into the v of a reflection I - v v^T that maps x to a multiple of the first unit
 * vector; returns that multiple. A vector with nothing to reflect gives v = 0.
 */
function reflectionOf(v: Float64Array, start: number): number {
  const first = v[start] as number;
  let tail = 0;
  for (let i = start + 1; i < v.length; i++) tail += (v[i] as number) ** 2;
  if (tail === 0) {
    v[start] = 0;
    return first;
  }
  const length = Math.sqrt(first * first + tail);
  const image = first > 0 ? -length : length; // The other sign would cancel.
  v[start] = first - image;
  const scale = Math.sqrt(2 / ((first - image) ** 2 + tail));
  for (let i = start; i < v.length; i++) v[i] = (v[i] as number) * scale;
  return image;
}

/** A <- (I - v v^T) A (I - v v^T) for rows and columns from `start` on: A - v w^T - w v^T. `w` is scratch. */
function applyFromBothSides(rows: Float64Array[], v: Float64Array, w: Float64Array, start: number): void {
  const n = rows.length;
  w.fill(0);
  for (let i = start; i < n; i++) {
    const row = rows[i] as Float64Array;
    const vi = v[i] as number;
    let sum = (row[i] as number) * vi;
    for (let j = start; j < i; j++) {
      const a = row[j] as number;
      sum += a * (v[j] as number);
      w[j] = (w[j] as number) + a * vi;
    }
    w[i] = (w[i] as number) + sum;
  }
  let half = 0;
  for (let i = start; i < n; i++) half += (w[i] as number) * (v[i] as number) * 0.5;
  for (let i = start; i < n; i++) w[i] = (w[i] as number) - half * (v[i] as number);
  for (let i = start; i < n; i++) {
    const row = rows[i] as Float64Array;
    const vi = v[i] as number;
    const wi = w[i] as number;
    for (let j = start; j <= i; j++) {
      row[j] = (row[j] as number) - vi * (w[j] as number) - wi * (v[j] as number);
    }
  }
}

/** Bisection: the interval that holds the k-th largest eigenvalue is halved until it is as small as numbers get. */
function largestEigenvalues(matrix: Tridiagonal, d: number): Float64Array {
  const n = matrix.diagonal.length;
  const values = new Float64Array(d);
  let top = matrix.norm;
  for (let k = 0; k < d; k++) {
    let low = -matrix.norm;
    let high = top;
    for (let middle = (low + high) / 2; middle > low && middle < high; middle = (low + high) / 2) {
      if (n - countBelow(matrix, middle) > k) low = middle;
      else high = middle;
      if (high - low <= 1e-16 * matrix.norm) break;
    }
    values[k] = high;
    top = high;
  }
  return values;
}

/** How many eigenvalues are below x: the negative pivots of T - x I. */
function countBelow({ diagonal, off, norm }: Tridiagonal, x: number): number {
  const tiny = Number.EPSILON * (norm || 1);
  let count = 0;
  let pivot = 1;
  for (let i = 0; i < diagonal.length; i++) {
    const coupling = i > 0 ? (off[i - 1] as number) : 0;
    pivot = (diagonal[i] as number) - x - (coupling * coupling) / pivot;
    if (Math.abs(pivot) < tiny) pivot = -tiny;
    if (pivot < 0) count++;
  }
  return count;
}

/** Rounds of inverse iteration: two suffice, a third costs nothing. */
const ROUNDS = 3;

/** Writes into `vector` a unit eigenvector of T for `value`, orthogonal to those in `found`. */
function inverseIteration(
  matrix: Tridiagonal,
  value: number,
  found: readonly Float64Array[],
  vector: Float64Array,
  rng: Rng,
): void {
  for (let i = 0; i < vector.length; i++) vector[i] = rng.normal();
  const solve = shiftedSolver(matrix, value);
  for (let round = 0; round < ROUNDS; round++) {
    solve(vector);
    normalise(vector);
    for (let twice = 0; twice < 2; twice++) for (const other of found) removeComponent(vector, other);
    normalise(vector);
  }
}

/** Solves (T - shift I) x = b in place, by elimination with row exchanges; a zero pivot becomes a tiny one. */
function shiftedSolver({ diagonal, off, norm }: Tridiagonal, shift: number): (b: Float64Array) => void {
  const n = diagonal.length;
  const tiny = Number.EPSILON * (norm || 1);
  // Row i of the upper factor: pivot[i], next[i], after[i] in columns i, i + 1, i + 2.
  const pivot = diagonal.map((x) => x - shift);
  const next = off.slice();
  const after = new Float64Array(n);
  const factor = new Float64Array(n);
  const exchanged = new Uint8Array(n);
  for (let i = 0; i + 1 < n; i++) {
    const below = off[i] as number;
    const p = pivot[i] as number;
    if (Math.abs(below) > Math.abs(p)) {
      exchanged[i] = 1;
      const f = p / below;
      factor[i] = f;
      const belowPivot = pivot[i + 1] as number;
      const belowNext = next[i + 1] as number;
      pivot[i + 1] = (next[i] as number) - f * belowPivot;
      next[i + 1] = -f * belowNext;
      pivot[i] = below;
      next[i] = belowPivot;
      after[i] = belowNext;
    } else {
      const f = below / (p === 0 ? tiny : p);
      factor[i] = f;
      pivot[i + 1] = (pivot[i + 1] as number) - f * (next[i] as number);
    }
  }
  for (let i = 0; i < n; i++) if (Math.abs(pivot[i] as number) < tiny) pivot[i] = tiny;

  return (b) => {
    for (let i = 0; i + 1 < n; i++) {
      const here = b[i] as number;
      const below = b[i + 1] as number;
      const f = factor[i] as number;
      if (exchanged[i] === 1) b[i] = below;
      b[i + 1] = exchanged[i] === 1 ? here - f * below : below - f * here;
    }
    for (let i = n - 1; i >= 0; i--) {
      const one = i + 1 < n ? (next[i] as number) * (b[i + 1] as number) : 0;
      const two = i + 2 < n ? (after[i] as number) * (b[i + 2] as number) : 0;
      b[i] = ((b[i] as number) - one - two) / (pivot[i] as number);
    }
  };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** a <- a - (a . unit) unit */
function removeComponent(a: Float64Array, unit: Float64Array): void {
  const part = dot(a, unit);
  for (let i = 0; i < a.length; i++) a[i] = (a[i] as number) - part * (unit[i] as number);
}

function normalise(a: Float64Array): void {
  const largest = largestSize(a);
  if (largest === 0) return;
  for (let i = 0; i < a.length; i++) a[i] = (a[i] as number) / largest; // Squares of 1e200 would overflow.
  const length = Math.sqrt(dot(a, a));
  for (let i = 0; i < a.length; i++) a[i] = (a[i] as number) / length;
}

/** Applies the reflections from the last to the first: from the tridiagonal matrix to the given one. */
function reflectBack(reflections: Reflections, vector: Float64Array): void {
  for (let k = reflections.length - 1; k >= 0; k--) removeComponent(vector, reflections[k] as Float64Array);
}

function makeLargestPositive(vector: Float64Array): void {
  let largest = 0;
  for (let i = 0; i < vector.length; i++) {
    if (Math.abs(vector[i] as number) > Math.abs(largest)) largest = vector[i] as number;
  }
  if (largest < 0) for (let i = 0; i < vector.length; i++) vector[i] = -(vector[i] as number);
}
