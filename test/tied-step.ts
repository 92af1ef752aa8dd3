// One training step of the smallest language model with tied weights, h = table[ids], logits = h tableᵀ, and its
// gradient in float64: what a table larger than a binding goes through.
import type { Gpu } from "../src/array/index.ts";
import {
  crossEntropy,
  embedding,
  linear,
  type Parameter,
  Stream,
  tensor,
  tidy,
} from "../src/autograd/index.ts";

export interface TiedBatch {
  readonly ids: Int32Array<ArrayBuffer>;
  readonly labels: Int32Array<ArrayBuffer>;
}

/** Collects the gradient of a step in the table, and gives the loss. */
export async function tiedStep(gpu: Gpu, table: Parameter, { ids, labels }: TiedBatch): Promise<number> {
  const loss = tidy(() => {
    const h = embedding(table, tensor(gpu, ids));
    const result = crossEntropy(linear(h, table), tensor(gpu, labels));
    result.backward();
    return result;
  });
  const value = await loss.item();
  loss.dispose();
  return value;
}

/** `n` positions of `distinct` ids; ids and labels come from all of 0..rows-1, the first and last row among them. */
export function tiedBatch(rows: number, n: number, distinct: number): TiedBatch {
  const stream = Stream.seed(5);
  const draw = (name: string, i: number): number => stream.fold(name).integer(rows, i);
  const known = Int32Array.from({ length: distinct }, (_, i) =>
    i === 0 ? 0 : i === 1 ? rows - 1 : draw("ids", i),
  );
  return {
    ids: Int32Array.from({ length: n }, (_, i) => known[i % distinct] ?? 0),
    labels: Int32Array.from({ length: n }, (_, i) => (i % 7 === 0 ? (known[2] ?? 0) : draw("labels", i))),
  };
}

interface Position {
  /** Values of h tableᵀ. */
  readonly logits: Float64Array;
  readonly logSum: number;
  /** How far the device's p may be from exp(logits - logSum), as a share of it. */
  readonly error: Float64Array;
}

const UNIT = 2 ** -24;

export interface TiedReference {
  readonly loss: number;
  readonly gradient: Float64Array;
  /** The error that each element of the gradient may have. */
  readonly bound: Float64Array;
}

/** Compares rows of a gradient of the table with the reference of these rows. */
export function assertRows(
  gradient: Float32Array,
  columns: number,
  rows: readonly number[],
  expected: Pick<TiedReference, "gradient" | "bound">,
): void {
  rows.forEach((row, i) => {
    for (let c = 0; c < columns; c++) {
      const value = gradient[row * columns + c] ?? Number.NaN;
      const error = Math.abs(value - (expected.gradient[i * columns + c] ?? 0));
      const bound = expected.bound[i * columns + c] ?? 0;
      if (!(error <= bound))
        throw new Error(`row ${row}, column ${c}: ${value} is off by ${error}, allowed ${bound}`);
    }
  });
}

/** The loss, and the gradient of some rows of the table [V, C]. */
export function tiedReference(
  table: Float32Array,
  columns: number,
  { ids, labels }: TiedBatch,
  rows: readonly number[],
): TiedReference {
  const n = ids.length;
  const V = table.length / columns;
  const positions = new Map<number, Position>();
  for (const id of ids) if (!positions.has(id)) positions.set(id, position(table, columns, id));
  let loss = 0;
  ids.forEach((id, i) => {
    const { logits, logSum } = positions.get(id) as Position;
    loss += (logSum - (logits[labels[i] as number] as number)) / n;
  });
  const gradient = new Float64Array(rows.length * columns);
  const bound = new Float64Array(rows.length * columns);
  /** Adds dlogits[i, v] · x to a row's gradient, with what the device may get wrong in a sum of `terms`. */
  const add = (row: number, i: number, v: number, x: number, terms: number): void => {
    const { logits, logSum, error } = positions.get(ids[i] as number) as Position;
    const p = Math.exp((logits[v] as number) - logSum) / n;
    const dlogit = p - (labels[i] === v ? 1 / n : 0);
    const rounding = 4 * (4 + Math.sqrt(terms)) * UNIT * Math.abs(dlogit) + p * (error[v] as number);
    for (let c = 0; c < columns; c++) {
      const value = table[x * columns + c] as number;
      gradient[row * columns + c] = (gradient[row * columns + c] as number) + dlogit * value;
      bound[row * columns + c] = (bound[row * columns + c] as number) + rounding * Math.abs(value);
    }
  };
  rows.forEach((v, row) => {
    // dlogitsᵀ h, of the product; and Σ dlogits table over the positions that looked the row up.
    for (let i = 0; i < n; i++) add(row, i, v, ids[i] as number, n);
    for (let i = 0; i < n; i++) if (ids[i] === v) for (let w = 0; w < V; w++) add(row, i, w, w, V + n);
  });
  return { loss, gradient, bound };
}

function position(table: Float32Array, columns: number, id: number): Position {
  const V = table.length / columns;
  const logits = new Float64Array(V);
  const sizes = new Float64Array(V);
  let largest = Number.NEGATIVE_INFINITY;
  let worst = 0;
  for (let v = 0; v < V; v++) {
    let sum = 0;
    let size = 0;
    for (let c = 0; c < columns; c++) {
      const term = (table[id * columns + c] as number) * (table[v * columns + c] as number);
      sum += term;
      size += Math.abs(term);
    }
    logits[v] = sum;
    sizes[v] = (4 + Math.sqrt(columns)) * UNIT * size;
    largest = Math.max(largest, sum);
    worst = Math.max(worst, sizes[v] as number);
  }
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - largest);
  const logSum = largest + Math.log(total);
  // The product's error in the logit and in the log-sum, that of the log-sum itself, and exp's.
  const error = logits.map(
    (logit, v) =>
      (sizes[v] as number) +
      worst +
      2e-6 +
      4e-7 * Math.abs(largest) +
      (3 + 2 * Math.abs(logit - logSum)) * 2 * UNIT,
  );
  return { logits, logSum, error };
}
