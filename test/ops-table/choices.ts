// Rows of comparisons, selection, and of the larger, the smaller and the power of two.
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { type Bound, exact, terms, ulpAt } from "./bounds.ts";
import {
  type Case,
  floats,
  given,
  integers,
  normal,
  type Refusal,
  type Row,
  row,
  uniform,
  type Value,
} from "./row.ts";

type Pair = (a: R.RefTensor, b: R.RefTensor) => R.RefTensor;

const pairs: readonly (readonly [a: readonly number[], b: readonly number[]])[] = [
  [
    [3, 5, 7],
    [3, 5, 7],
  ],
  [
    [2, 4, 8],
    [2, 4, 8],
  ],
  [[3, 5, 8], [8]],
  [[3, 5, 7], [7]],
  [
    [2, 1, 6, 3],
    [4, 1, 3],
  ],
  [[5, 4], []],
  [[1], [2, 3, 4]],
  [
    [2, 3, 1],
    [1, 3, 5],
  ],
  [
    [0, 3],
    [1, 3],
  ],
];

const broadcastErrors: readonly Refusal[] = [
  {
    shapes: [
      [3, 5],
      [4, 5],
    ],
    message: /\[3, 5\] and \[4, 5\] do not broadcast \(3 vs 4\)/,
  },
  {
    shapes: [
      [2, 3],
      [2, 3, 4],
    ],
    message: /\[2, 3\] and \[2, 3, 4\] do not broadcast \(2 vs 3\)/,
  },
];

const shown = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

function onPairs(first: (shape: readonly number[], seed: number) => R.RefTensor, second = first): Case[] {
  return pairs.map(([a, b], i) => ({
    name: `${shown(a)} with ${shown(b)}`,
    inputs: [first(a, 2 * i + 1), second(b, 2 * i + 2)],
  }));
}

const on =
  (f: Pair) =>
  (inputs: readonly Value[]): R.RefTensor =>
    f(floats(inputs, 0), floats(inputs, 1));

/** Every one of some values beside every other. */
function crossed(values: readonly number[]): Case {
  const n = values.length;
  return {
    name: `of ${values.join(", ")}`,
    inputs: [R.ref([n, 1], values.map(Math.fround)), R.ref([n], values.map(Math.fround))],
    gradient: false,
  };
}

/** Whole numbers as floats, so that some are equal. */
const coarse = (shape: readonly number[], seed: number): R.RefTensor =>
  R.map(normal(shape, seed, { std: 2 }), Math.round);

const edges = [0, -0, 1e-45, -1e-45, 1e-38, 1, 1.0000001, -1, 1e30, -1e30, Infinity, -Infinity, Number.NaN];

const comparisons: readonly Row[] = [
  [ops.eq, ad.eq, R.eq] as const,
  [ops.ne, ad.ne, R.ne] as const,
  [ops.lt, ad.lt, R.lt] as const,
  [ops.le, ad.le, R.le] as const,
  [ops.gt, ad.gt, R.gt] as const,
  [ops.ge, ad.ge, R.ge] as const,
].map(([op, fn, f]) =>
  row(op, {
    call: ([a, b], { number }) => fn(given(a), b ?? Number(number)),
    reference: ([a = null, b = null], { number }) =>
      f(floats([a], 0), b ? floats([b], 0) : R.ref([], [Math.fround(Number(number))])),
    cases: [
      ...onPairs(coarse),
      crossed(edges),
      { name: "with 1", inputs: [coarse([3, 5], 1), null], attrs: { number: 1 } },
      { name: "with 0.1", inputs: [R.ref([3], [0, Math.fround(0.1), 1]), null], attrs: { number: 0.1 } },
    ].map((c) => ({ ...c, gradient: false as const })),
    forward: exact,
    backward: exact,
    refuses: broadcastErrors,
  }),
);

const kinds: readonly Row[] = [
  [ops.isNaN, (v: number) => Number.isNaN(v)] as const,
  [ops.isInf, (v: number) => Math.abs(v) === Infinity] as const,
  [ops.isFinite, (v: number) => Number.isFinite(v)] as const,
].map(([op, f]) =>
  row(op, {
    reference: (inputs) => R.map(floats(inputs, 0), (v) => Number(f(v))),
    cases: [
      { name: "[3, 5, 7]", inputs: [normal([3, 5, 7], 1)], gradient: false },
      { name: "of edges", inputs: [R.ref([13], edges.map(Math.fround))], gradient: false },
      { name: "nothing", inputs: [R.ref([0, 2])], gradient: false },
    ],
    forward: exact,
    backward: exact,
  }),
);

const mask = (shape: readonly number[], seed: number): R.RefIndices =>
  R.indices(
    shape,
    uniform(shape, seed, 0, 1).data.map((v) => Number(v > 0.4)),
  );

const where = row(ops.where, {
  reference: (inputs, { a, b }) => {
    const cond = integers(inputs, 0);
    const operand = (i: number, number: unknown): R.RefTensor =>
      inputs[i] ? floats(inputs, i) : R.ref([], [Number(number)]);
    return R.where(R.ref(cond.shape, cond.data), operand(1, a), operand(2, b));
  },
  cases: [
    { name: "[3, 5, 7]", inputs: [mask([3, 5, 7], 1), normal([3, 5, 7], 2), normal([3, 5, 7], 3)] },
    { name: "[4, 64]", inputs: [mask([4, 64], 4), normal([4, 64], 5), normal([4, 64], 6)] },
    { name: "mask of keys", inputs: [mask([2, 1, 6], 7), normal([2, 3, 6], 8), normal([], 9)] },
    { name: "all stretched", inputs: [mask([2, 1, 1], 10), normal([3, 1], 11), normal([4], 12)] },
    { name: "number a", inputs: [mask([3, 5], 13), null, normal([3, 5], 14)], attrs: { a: -1e9 } },
    { name: "number b", inputs: [mask([5], 15), normal([3, 5], 16), null], attrs: { b: 0.5 } },
    { name: "scalars", inputs: [mask([], 17), normal([], 18), normal([], 19)] },
    { name: "nothing", inputs: [mask([0, 3], 20), normal([1, 3], 21), normal([3], 22)] },
    {
      name: "NaN and Infinity that are not picked",
      inputs: [
        R.indices([4], [1, 0, 1, 0]),
        R.ref([4], [1, Number.NaN, Number.NaN, Infinity]),
        R.ref([4], [Number.NaN, 2, 1, -Infinity]),
      ],
      gradient: false,
    },
  ],
  forward: exact,
  // Sums over what was stretched, at most 24 here.
  backward: terms(24, 4),
  refuses: [
    { shapes: [[3, 5], [4, 5], null], message: /\[3, 5\] and \[4, 5\] do not broadcast/ },
    { shapes: [[3], [2], [3]], message: /\[2\] and \[3\] do not broadcast/ },
  ],
});

function choice(op: ops.BinaryOp, f: Pair): Row {
  return row(op, {
    reference: on(f),
    magnitude: on(R.add),
    cases: [
      ...onPairs((shape, seed) => normal(shape, seed)),
      // Half of the gradient to each, as central differences have it.
      { name: "of equals", inputs: [R.ref([4], [1, 2, -3, 0]), R.ref([4], [1, 3, -3, 0])] },
      crossed([0, 1, -1, 1e30, -1e30, Infinity, -Infinity, Number.NaN]),
    ],
    forward: exact,
    backward: terms(48, 4),
    refuses: broadcastErrors,
  });
}

/** (3 + 2 |b log a|) ULP, and what the factors of a gradient add. */
const powerBound =
  (times: number): Bound =>
  ({ inputs, expected, dy }) => {
    const [a, b] = [floats(inputs, 0), floats(inputs, 1)];
    const log = (x: number, y: number): number =>
      x === 0 || !Number.isFinite(x) || !Number.isFinite(y) ? 0 : Math.abs(y * Math.log(Math.abs(x)));
    if (!dy) {
      const logs = R.zip(a, b, log).data;
      return (i) => (3 + 2 * (logs[i] ?? 0)) * ulpAt(expected.data[i] ?? 0) + 2 ** -126;
    }
    // Sums over what was stretched: the error of the largest term, for each of at most 48.
    let most = 0;
    for (const value of R.zip(
      a,
      b,
      (x, y) =>
        (3 + 2 * log(x, y) + 2 * Math.abs(Math.log(x))) *
        ulpAt(x ** y * (1 + Math.abs(y / x) + Math.abs(Math.log(x)))),
    ).data)
      most = Math.max(most, value);
    const largest = dy.data.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
    return () => times * most * largest;
  };

const powered: Row = row(ops.pow, {
  reference: on(R.pow),
  cases: [
    ...onPairs(
      (shape, seed) => uniform(shape, seed, 0.3, 3),
      (shape, seed) => normal(shape, seed, { std: 1.5 }),
    ),
    {
      name: "of signs",
      inputs: [R.ref([6, 1], [-2, -1, -0.5, 0.5, 1, 3]), R.ref([7], [-3, -2, -1, 0, 1, 2, 3])],
      gradient: false,
    },
    // Infinite exponents are left out: 1 to such a power is NaN in JavaScript and 1 in C.
    crossed([0, -0, 1, -1, 2, -2, 3, 0.5, -0.5, 1e30, -1e30]),
    {
      name: "of infinite bases",
      inputs: [R.ref([2, 1], [Infinity, -Infinity]), R.ref([6], [2, 3, 0, -2, -3, 0.5])],
      gradient: false,
    },
  ],
  forward: powerBound(1),
  backward: powerBound(4 * 7),
  refuses: broadcastErrors,
});

/** Rows of functions that choose between two, or ask how they lie. */
export const choices: readonly Row[] = [
  ...comparisons,
  ...kinds,
  where,
  choice(ops.maximum, R.maximum),
  choice(ops.minimum, R.minimum),
  powered,
];
