// How each op finds its inputs in a random graph. An op that is not here is drawn in the shapes of its row
// (draw-row.ts): a new op takes part as soon as it has one.
import { draw as drawOf, dropped } from "../ops-table/drawing.ts";
import { type Case, sizeOf } from "../ops-table/row.ts";
import { indices, type RefIndices } from "../reference/index.ts";
import { type Builder, type Known, MOST_ELEMENTS } from "./builder.ts";

export interface Drawn {
  readonly inputs: readonly (Known | RefIndices | null)[];
  readonly attrs?: NonNullable<Case["attrs"]>;
}

/** null: nothing fits just now. */
export type Draw = (b: Builder) => Drawn | null;

const fits = (shape: readonly number[]): boolean => shape.length <= 6 && sizeOf(shape) <= MOST_ELEMENTS;

/** A shape that broadcasts with `shape`: some leading dimensions gone, some others 1. */
function partOf(b: Builder, shape: readonly number[]): number[] {
  const rest = shape.slice(b.chance(0.5) ? 0 : b.integer(shape.length + 1));
  return rest.map((n) => (b.chance(0.25) ? 1 : n));
}

function broadcasts(a: readonly number[], b: readonly number[]): boolean {
  const rank = Math.max(a.length, b.length);
  const out = Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a.at(i - rank) ?? 1, b.at(i - rank) ?? 1];
    return x === y || x === 1 || y === 1 ? Math.max(x, y) : Number.NaN;
  });
  return out.every((n) => n > 0) && fits(out);
}

const pair: Draw = (b) => {
  const x = b.any();
  if (!x) return null;
  const other =
    (b.chance(0.6) ? b.any((shape) => broadcasts(x.value.shape, shape)) : null) ??
    b.leaf(partOf(b, x.value.shape));
  return { inputs: b.chance(0.5) ? [x, other] : [other, x] };
};

const atLeast = (rank: number) => (shape: readonly number[]) => shape.length >= rank;

const matmul: Draw = (b) => {
  const x = b.any(atLeast(2));
  if (!x) return null;
  const [transposeA, transposeB] = [b.chance(0.3), b.chance(0.4)];
  const [rows = 1, columns = 1] = x.value.shape.slice(-2);
  const [M, K] = transposeA ? [columns, rows] : [rows, columns];
  const N = b.size();
  const batch = b.chance(0.5) ? [] : partOf(b, x.value.shape.slice(0, -2));
  if (!fits([...x.value.shape.slice(0, -2), M, N])) return null;
  const other = b.like([...batch, ...(transposeB ? [N, K] : [K, N])], 1 / Math.sqrt(K));
  return { inputs: [x, other, b.chance(0.3) ? b.like([N]) : null], attrs: { transposeA, transposeB } };
};

const linear: Draw = (b) => {
  const x = b.any(atLeast(1));
  if (!x) return null;
  const [K = 1, N] = [x.value.shape.at(-1), b.size()];
  if (!fits([...x.value.shape.slice(0, -1), N])) return null;
  return { inputs: [x, b.like([N, K], 1 / Math.sqrt(K)), b.chance(0.7) ? b.like([N]) : null] };
};

const layerNorm: Draw = (b) => {
  const x = b.any((shape) => shape.length > 0 && (shape.at(-1) ?? 0) > 1);
  if (!x) return null;
  const channels = x.value.shape.slice(-1);
  return { inputs: [x, b.like(channels), b.like(channels)], attrs: { eps: 1e-5 } };
};

function whole(b: Builder, shape: readonly number[], n: number): RefIndices {
  return indices(
    shape,
    Array.from({ length: sizeOf(shape) }, () => b.integer(n)),
  );
}

const embedding: Draw = (b) => {
  const table = b.any((shape) => shape.length === 2);
  if (!table) return null;
  const [V = 1, C = 1] = table.value.shape;
  const shape = b.pick([[], [3], [5], [2, 4]]);
  return fits([...shape, C]) ? { inputs: [table, whole(b, shape, V)] } : null;
};

const crossEntropy: Draw = (b) => {
  const logits = b.any(atLeast(1));
  if (!logits) return null;
  const labels = whole(b, logits.value.shape.slice(0, -1), logits.value.shape.at(-1) ?? 1);
  // The first row always counts: the mean of no rows is NaN.
  const data = labels.data.map((label, i) => (i > 0 && b.chance(0.2) ? -100 : label));
  const attrs = { reduction: b.pick(["mean", "sum", "none"]), labelSmoothing: b.pick([0, 0.1]) };
  return { inputs: [logits, indices(labels.shape, data)], attrs };
};

const symmetricKl: Draw = (b) => {
  const x = b.any(atLeast(1));
  return x && { inputs: [x, b.like(x.value.shape)], attrs: { gradient: b.pick(["full", "detached"]) } };
};

const dropout: Draw = (b) => {
  const x = b.any(atLeast(1));
  return x && { inputs: [x], attrs: (gpu) => ({ p: 0.3, draw: drawOf(gpu, dropped) }) };
};

/** Another shape of as many elements. */
const reshape: Draw = (b) => {
  const x = b.any();
  if (!x) return null;
  const shape: number[] = [];
  let left = x.value.data.length;
  while (left > 1 && shape.length < 4) {
    const factors = [2, 3, 4, 5, 7, left].filter((n) => left % n === 0);
    const factor = b.pick(factors);
    shape.push(factor);
    left /= factor;
  }
  if (left > 1) shape.push(left);
  if (b.chance(0.2) && shape.length < 5) shape.splice(b.integer(shape.length + 1), 0, 1);
  return { inputs: [x], attrs: { shape } };
};

const permute: Draw = (b) => {
  const x = b.any(atLeast(2));
  if (!x) return null;
  const order = [...x.value.shape.keys()];
  for (let i = order.length - 1; i > 0; i--) {
    const j = b.integer(i + 1);
    [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
  }
  return { inputs: [x], attrs: { order } };
};

const transpose: Draw = (b) => {
  const x = b.any(atLeast(2));
  return x && { inputs: [x], attrs: { a: b.integer(x.value.shape.length), b: -1 } };
};

const expand: Draw = (b) => {
  const x = b.any((shape) => shape.length < 4);
  if (!x) return null;
  const lead = b.chance(0.5) ? [b.size()] : [];
  const shape = [...lead, ...x.value.shape.map((n) => (n === 1 ? b.size() : n))];
  return fits(shape) ? { inputs: [x], attrs: { shape } } : null;
};

const slice: Draw = (b) => {
  const x = b.any((shape) => shape.some((n) => n > 1));
  if (!x) return null;
  const axis = b.integer(x.value.shape.length);
  const n = x.value.shape[axis] ?? 1;
  const start = b.integer(n);
  return { inputs: [x], attrs: { axis, start, end: start + 1 + b.integer(n - start) } };
};

const concat: Draw = (b) => {
  const x = b.any(atLeast(1));
  if (!x) return null;
  const axis = b.integer(x.value.shape.length);
  const others = Array.from({ length: 1 + b.integer(2) }, () =>
    b.like(x.value.shape.map((n, d) => (d === axis && b.chance(0.5) ? b.size() : n))),
  );
  const inputs = [x, ...others];
  const length = inputs.reduce((sum, { value }) => sum + (value.shape[axis] ?? 0), 0);
  return fits(x.value.shape.map((n, d) => (d === axis ? length : n))) ? { inputs, attrs: { axis } } : null;
};

const stack: Draw = (b) => {
  const x = b.any((shape) => shape.length < 5 && sizeOf(shape) * 3 <= MOST_ELEMENTS);
  if (!x) return null;
  const inputs = [x, ...Array.from({ length: 1 + b.integer(2) }, () => b.like(x.value.shape))];
  return { inputs, attrs: { axis: b.integer(x.value.shape.length + 1) } };
};

const reduction: Draw = (b) => {
  const x = b.any();
  if (!x) return null;
  if (b.chance(0.2)) return { inputs: [x] };
  const axes = [...x.value.shape.keys()].filter(() => b.chance(0.5));
  return { inputs: [x], attrs: { axes, keepDim: b.chance(0.5) } };
};

const mse: Draw = (b) => {
  const x = b.any();
  return x && { inputs: [x, b.like(x.value.shape)] };
};

/** By the name of the row. */
export const draws: Readonly<Record<string, Draw>> = {
  add: pair,
  sub: pair,
  mul: pair,
  div: pair,
  matmul,
  linear,
  layerNorm,
  embedding,
  crossEntropy,
  symmetricKl,
  dropout,
  reshape,
  permute,
  transpose,
  expand,
  slice,
  concat,
  stack,
  sum: reduction,
  mean: reduction,
  mse,
};

/** Rows whose gradient goes to one of equal values: central differences give it to all of them. */
export const DISTINCT: ReadonlySet<string> = new Set(["sort values", "topK values"]);

/** Rows whose bounds are all relative to the terms: they hold for values of any size. */
export const RELATIVE: ReadonlySet<string> = new Set([
  "add",
  "sub",
  "mul",
  "neg",
  "scale",
  "shift",
  "matmul",
  "linear",
  "bankLinear",
  "embedding",
  "dropout",
  "reshape",
  "permute",
  "transpose",
  "expand",
  "slice",
  "concat",
  "stack",
  "sum",
  "mean",
  "mse",
  "square",
  "abs",
  "relu",
]);
