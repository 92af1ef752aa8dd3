// Attention of GPUs against float64, forward and backward: tiles that are full and not, masks, shared heads, a cache.
import { attention, type Gpu, Stream, type Tensor, tensor } from "../../src/index.ts";
import { type Check, poison } from "./checks.ts";

interface Attention {
  readonly batch: number;
  readonly queries: number;
  /** Rows of k and v, of which the first `keys` are read. */
  readonly capacity: number;
  readonly keys: number;
  readonly heads: number;
  readonly share: number;
  readonly headSize: number;
  readonly causal: boolean;
  /** Of the first entry: its first keys. */
  readonly padded: number;
}

const PLAIN = { batch: 2, heads: 2, share: 1, causal: false, padded: 0 } as const;

export function attentionChecks(): Attention[] {
  const sizes = [
    { queries: 128, keys: 128, headSize: 64 },
    { queries: 150, keys: 150, headSize: 64, causal: true, padded: 37 },
    { queries: 65, keys: 97, headSize: 80, heads: 4, share: 2, causal: true },
    { queries: 70, keys: 90, headSize: 128 },
    { queries: 33, keys: 40, headSize: 200, padded: 40 },
    { queries: 20, keys: 70, headSize: 15 },
    { queries: 1, keys: 300, headSize: 64, heads: 4, share: 2, causal: true, padded: 37 }, // few queries: rounds of 128 keys
    { queries: 5, keys: 150, headSize: 80, padded: 150 },
  ];
  return sizes.map((size, i) => ({ ...PLAIN, capacity: size.keys + (i % 2) * 5, ...size }));
}

const stream = Stream.seed(7).fold("attention checks");
const NAMES = ["y", "dq", "dk", "dv"] as const;
/** Of the largest value. Scores, weights and gradients are sums in f32 of up to 150 terms. */
const LIMIT = 5e-6;

export async function checkAttention(gpu: Gpu, sizes: Attention): Promise<Check[]> {
  const { batch, queries, capacity, keys, heads, share, headSize, causal, padded } = sizes;
  const [C, kvC] = [heads * headSize, (heads / share) * headSize];
  const [q, k, v, dy] = [
    stream.fold("q").normal(batch * queries * C),
    stream.fold("k").normal(batch * capacity * kvC),
    stream.fold("v").normal(batch * capacity * kvC),
    stream.fold("dy").normal(batch * queries * C),
  ] as const;
  const made = [
    tensor(gpu, q, [batch, queries, C]),
    tensor(gpu, k, [batch, capacity, kvC]),
    tensor(gpu, v, [batch, capacity, kvC]),
  ] as const;
  for (const x of made) x.requiresGrad = true;
  const seen = Int32Array.from({ length: batch * keys }, (_, i) => (i < padded ? 0 : 1));
  const keep = padded > 0 ? tensor(gpu, seen, [batch, keys]) : null;
  const upstream = tensor(gpu, dy, [batch, queries, C]);
  for (const size of [q.length, k.length, 2 * k.length, 2 * k.length + 64, 2 * batch * heads * queries])
    poison(gpu, size);
  const y = attention(...made, keep, { heads, kvHeads: heads / share, keyLength: keys, causal });
  y.backward(upstream);
  const actual = [y, ...made.map(({ grad }) => grad as Tensor)];
  const values = await Promise.all(actual.map((x) => x.data()));
  const expected = reference(sizes, { q, k, v, dy, seen });
  for (const x of [...made, upstream, y, keep]) x?.dispose();
  const shown = `${batch}x${queries}, ${keys} keys of ${capacity}, ${heads} heads of ${headSize}`;
  const more = `${share > 1 ? `, ${share} share one` : ""}${causal ? ", causal" : ""}${padded ? ", masked" : ""}`;
  return NAMES.map((name, i) => ({
    name: `attention ${name} ${shown}${more}`,
    error: errorOf(values[i] as Float32Array, expected[name]),
    limit: LIMIT,
  }));
}

/** The largest difference, as a share of the largest value. */
function errorOf(actual: Float32Array, expected: Float64Array): number {
  let [error, largest] = [0, 0];
  expected.forEach((value, i) => {
    const difference = Math.abs((actual[i] ?? Number.NaN) - value);
    error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(error, difference);
    largest = Math.max(largest, Math.abs(value));
  });
  return error / largest;
}

interface Inputs {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly dy: Float32Array;
  readonly seen: Int32Array;
}

type Results = Readonly<Record<(typeof NAMES)[number], Float64Array>>;

/** y, dq, dk, dv in float64. */
function reference(sizes: Attention, inputs: Inputs): Results {
  const { batch, queries, heads } = sizes;
  const [ofQueries, ofKeys] = [inputs.q.length, inputs.k.length];
  const results = {
    y: new Float64Array(ofQueries),
    dq: new Float64Array(ofQueries),
    dk: new Float64Array(ofKeys),
    dv: new Float64Array(ofKeys),
  };
  for (let n = 0; n < batch; n++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < queries; i++) addQuery(sizes, inputs, results, n, h, i);
  return results;
}

/** What query i of head h of entry n makes, and adds to the gradients of the keys that it sees. */
function addQuery(sizes: Attention, inputs: Inputs, results: Results, n: number, h: number, i: number): void {
  const { queries, capacity, keys, heads, share, headSize: D, causal } = sizes;
  const { q, k, v, dy, seen } = inputs;
  const { y, dq, dk, dv } = results;
  const mine = ((n * queries + i) * heads + h) * D;
  const theirs = (j: number) => ((n * capacity + j) * (heads / share) + Math.floor(h / share)) * D;
  const isSeen = (j: number) => seen[n * keys + j] !== 0;
  const scores: number[] = [];
  const end = causal ? i + 1 + keys - queries : keys;
  for (let j = 0; j < end; j++) scores.push(isSeen(j) ? dot(q, mine, k, theirs(j), D) / Math.sqrt(D) : -1e9);
  const p = softmaxOf(scores);
  const dp = p.map((_, j) => dot(dy, mine, v, theirs(j), D));
  const mean = p.reduce((total, weight, j) => total + weight * (dp[j] ?? 0), 0);
  for (const [j, weight] of p.entries()) {
    addScaled(y, mine, weight, v, theirs(j), D);
    addScaled(dv, theirs(j), weight, dy, mine, D);
    if (!isSeen(j)) continue;
    const ds = (weight * ((dp[j] ?? 0) - mean)) / Math.sqrt(D);
    addScaled(dq, mine, ds, k, theirs(j), D);
    addScaled(dk, theirs(j), ds, q, mine, D);
  }
}

function softmaxOf(scores: readonly number[]): number[] {
  const top = scores.reduce((most, s) => Math.max(most, s), Number.NEGATIVE_INFINITY);
  const powers = scores.map((s) => Math.exp(s - top));
  const sum = powers.reduce((total, e) => total + e, 0);
  return powers.map((e) => e / sum);
}

function dot(a: Float32Array, i: number, b: Float32Array, j: number, n: number): number {
  let sum = 0;
  for (let c = 0; c < n; c++) sum += (a[i + c] ?? 0) * (b[j + c] ?? 0);
  return sum;
}

function addScaled(
  to: Float64Array,
  i: number,
  factor: number,
  from: Float32Array,
  j: number,
  n: number,
): void {
  for (let c = 0; c < n; c++) to[i + c] = (to[i + c] ?? 0) + factor * (from[j + c] ?? 0);
}
