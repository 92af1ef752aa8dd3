import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { absolute, type Bound, type Context, exact, plus, slope, terms, ulpAt, ulps } from "./bounds.ts";
import {
  type Attributes,
  type Case,
  floats,
  given,
  normal,
  type Row,
  row,
  uniform,
  type Value,
} from "./row.ts";

type Reference = (x: R.RefTensor) => R.RefTensor;

/** Sizes that groups of four and workgroups do not divide, and some that they do. */
function twoSizes(make: (shape: readonly number[], seed: number) => R.RefTensor, attrs: object = {}): Case[] {
  return [
    { name: "[3, 5, 7]", inputs: [make([3, 5, 7], 1)], attrs },
    { name: "[4, 64]", inputs: [make([4, 64], 2)], attrs },
    { name: "scalar", inputs: [make([], 3)], attrs },
  ];
}

function extremes(values: readonly number[], forward?: Bound): Case {
  const x = R.ref([values.length], values.map(Math.fround));
  return { name: `of ${values.join(", ")}`, inputs: [x], gradient: false, ...(forward && { forward }) };
}

interface Unary {
  readonly forward: Bound;
  readonly backward: Bound;
  readonly cases?: readonly Case[];
  readonly workgroup?: 256;
  readonly values?: (shape: readonly number[], seed: number) => R.RefTensor;
}

function unary(
  op: ops.UnaryOp,
  reference: Reference,
  { forward, backward, cases = [], values, ...rest }: Unary,
): Row {
  const make = values ?? ((shape, seed) => normal(shape, seed, { std: 3 }));
  const of = (inputs: readonly Value[]) => reference(floats(inputs, 0));
  return row(op, { reference: of, cases: [...twoSizes(make), ...cases], forward, backward, ...rest });
}

const positive = (shape: readonly number[], seed: number) => uniform(shape, seed, 0.2, 5);
const awayFromZero = (shape: readonly number[], seed: number) =>
  R.map(normal(shape, seed, { std: 2 }), (v) => Math.fround(Math.abs(v) < 0.1 ? v + 0.5 : v));

/** (3 + 2|x|) ULP of exp(x), and what a factor of `times` allows. */
function expBound(times: number): Bound {
  return ({ inputs, expected }: Context) =>
    (i) =>
      times * (3 + 2 * Math.abs(floats(inputs, 0).data[i] ?? 0)) * ulpAt(expected.data[i] ?? 0) + 2 ** -126;
}

/** Gradients that pass through or are scaled: one rounding of the product, four allowed. */
const passed = ulps(4);
const large = [-1e30, -1e4, -89, -30, 0, 30, 89, 1e4, 1e30];

const unaries: readonly Row[] = [
  unary(ops.neg, R.neg, { forward: exact, backward: exact }),
  unary(ops.abs, R.abs, { forward: exact, backward: exact, values: awayFromZero, cases: [extremes(large)] }),
  unary(ops.exp, R.exp, {
    forward: expBound(1),
    backward: expBound(4),
    cases: [extremes([-1e4, -120, -80, -1e-30, 0, 80, 88.5, 89, 1e4])],
  }),
  unary(ops.log, R.log, {
    forward: plus(ulps(3), absolute(2 ** -21)),
    backward: ulps(12),
    values: positive,
    cases: [extremes([1e-30, 1, 1.0000001, 3.4e38])],
  }),
  unary(ops.sqrt, R.sqrt, {
    forward: ulps(3),
    backward: ulps(12),
    values: positive,
    cases: [extremes([0, 1e-30, 3.4e38])],
  }),
  unary(ops.rsqrt, R.rsqrt, {
    forward: ulps(6),
    backward: ulps(24),
    values: positive,
    cases: [extremes([1e-30, 3.4e38])],
  }),
  unary(ops.square, R.square, {
    forward: ulps(1),
    backward: passed,
    cases: [extremes([-1e20, 0, 1e-10, 1e20])],
  }),
  unary(ops.reciprocal, R.recip, {
    forward: ulps(3),
    backward: ulps(12),
    values: awayFromZero,
    cases: [extremes([-1e30, 1e30, 1e-30])],
  }),
  unary(ops.relu, R.relu, {
    forward: exact,
    backward: exact,
    values: awayFromZero,
    cases: [extremes([...large, -0, 3e38])],
  }),
  unary(ops.gelu, R.gelu, {
    workgroup: 256,
    forward: plus(absolute(2e-6), ulps(2)),
    backward: slope(8e-6),
    cases: [extremes([-1e30, -1e4, -89, -6, -3, 0, 1e-30, 3, 6, 89, 1e4, 1e30])],
  }),
  unary(ops.geluTanh, R.geluTanh, {
    forward: plus(absolute(2e-6), ulps(2)),
    backward: slope(8e-6),
    cases: [extremes([-1e10, -1e4, -89, -6, -3, 0, 1e-30, 3, 6, 89, 1e4, 1e10])],
  }),
  unary(ops.silu, R.silu, {
    forward: plus(absolute(1e-6), ulps(4)),
    backward: slope(4e-6),
    cases: [extremes(large)],
  }),
  unary(ops.tanh, R.tanh, {
    forward: absolute(1e-6),
    backward: slope(4e-6),
    cases: [extremes([...large, -0.3, -1e-3, 1e-30, 0.2999, 0.3001]), extremes([1e-30, -1e-5], ulps(2))],
  }),
  unary(ops.sigmoid, R.sigmoid, {
    forward: absolute(1e-6),
    backward: slope(4e-6),
    cases: [extremes(large)],
  }),
  unary(ops.softplus, R.softplus, {
    forward: plus(absolute(1e-6), ulps(3)),
    backward: slope(4e-6),
    cases: [extremes(large)],
  }),
  unary(ops.erf, R.erf, {
    forward: absolute(1e-6),
    backward: slope(4e-6),
    cases: [extremes([...large, -4.1, -1, 0.9999, 1.0001, 4])],
  }),
];

const numbered: readonly Row[] = [
  row(ops.clamp, {
    call: ([x], { a, b }) => ad.clamp(given(x), Number(a), Number(b)),
    reference: ([x], { a, b }) => R.clamp(floats([x ?? null], 0), { min: Number(a), max: Number(b) }),
    cases: twoSizes((shape, seed) => normal(shape, seed), { a: -0.7, b: 0.9 }),
    // The bounds themselves are rounded to f32.
    forward: ulps(1),
    backward: exact,
  }),
  row(ops.scale, {
    call: ([x], { a }) => ad.mul(given(x), Number(a)),
    reference: (inputs, { a }) => R.map(floats(inputs, 0), (v) => Math.fround(Number(a)) * v),
    cases: twoSizes((shape, seed) => normal(shape, seed), { a: -1.7 }),
    forward: ulps(1),
    backward: passed,
  }),
  row(ops.shift, {
    call: ([x], { a }) => ad.add(given(x), Number(a)),
    reference: (inputs, { a }) => R.map(floats(inputs, 0), (v) => v + Math.fround(Number(a))),
    cases: twoSizes((shape, seed) => normal(shape, seed), { a: 0.3 }),
    forward: ulps(1),
    backward: exact,
  }),
];

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
  [
    [3, 5, 8],
    [5, 8],
  ],
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
];

type Pair = (a: R.RefTensor, b: R.RefTensor) => R.RefTensor;

function binary(
  op: ops.BinaryOp,
  f: Pair,
  magnitude: Pair,
  forward: Bound,
  rest: Pick<Row, "fused" | "workgroup"> = {},
): Row {
  const on = (g: Pair) => (inputs: readonly Value[], _attrs: Attributes) =>
    g(floats(inputs, 0), floats(inputs, 1));
  return row(op, {
    reference: on(f),
    magnitude: on(magnitude),
    cases: pairs.map(([a, b], i) => ({
      name: `[${a.join(", ")}] with [${b.join(", ")}]`,
      inputs: [normal(a, 2 * i + 1), awayFromZero(b, 2 * i + 2)],
    })),
    forward,
    ...rest,
    // Sums over what was stretched, at most 48 here.
    backward: terms(48, 4),
    refuses: [
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
    ],
  });
}

/** Rows of one element in, one element out, and of two in with broadcasting. */
export const pointwise: readonly Row[] = [
  ...unaries,
  ...numbered,
  binary(ops.add, R.add, R.add, ulps(1), { workgroup: 256 }),
  binary(ops.sub, R.sub, R.add, ulps(1)),
  binary(ops.mul, R.mul, R.mul, ulps(1)),
  // dy / b is half of the way to db.
  binary(ops.div, R.div, R.div, ulps(3), { fused: true }),
];
