// Rows of functions of one number with formulas of their own, and of steps.
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { type Bound, exact, plus, ulpAt, ulps } from "./bounds.ts";
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

type Make = (shape: readonly number[], seed: number) => R.RefTensor;

/** Sizes that groups of four and workgroups do not divide, and some that they do. */
function sizes(make: Make, attrs: object = {}): Case[] {
  return [
    { name: "[3, 5, 7]", inputs: [make([3, 5, 7], 1)], attrs },
    { name: "[4, 64]", inputs: [make([4, 64], 2)], attrs },
    { name: "scalar", inputs: [make([], 3)], attrs },
    { name: "nothing", inputs: [make([0, 3], 4)], attrs },
  ];
}

/** Values that only the forward pass is compared at. */
function at(values: readonly number[], rest: Partial<Case> = {}): Case {
  const x = R.ref([values.length], values.map(Math.fround));
  return { name: `of ${values.join(", ")}`, inputs: [x], gradient: false, ...rest };
}

const NOT = [Number.NaN, Infinity, -Infinity];
const TINY = [1e-40, -1e-40, 1e-30, -1e-30];
const small: Make = (shape, seed) => normal(shape, seed, { std: 2 });
const positive: Make = (shape, seed) => uniform(shape, seed, 0.2, 5);

/** (3 + 2|a|) ULP of e^a. */
const powerBound =
  (log: (x: number, attrs: Attributes) => number, times = 1): Bound =>
  ({ inputs, attrs, expected }) => {
    const x = floats(inputs, 0).data;
    return (i) =>
      times * (3 + 2 * Math.abs(log(x[i] ?? 0, attrs))) * ulpAt(expected.data[i] ?? 0) + 2 ** -126;
  };

interface Elementary {
  readonly forward: Bound;
  readonly backward: Bound;
  readonly make?: Make;
  readonly cases?: readonly Case[];
  readonly halves?: "forward";
}

function elementary(
  op: ops.UnaryOp,
  reference: (x: R.RefTensor) => R.RefTensor,
  { make = small, cases = [], ...rest }: Elementary,
): Row {
  return row(op, {
    reference: (inputs: readonly Value[]) => reference(floats(inputs, 0)),
    cases: [...sizes(make), ...cases],
    ...rest,
  });
}

/** The derivative's terms cancel beside 0: four roundings of the larger one. */
const plusOne = (n: number): Bound =>
  plus(
    ulps(n),
    ({ dy }) =>
      (i) =>
        n * ulpAt(dy?.data[i] ?? 0),
  );

const functions: readonly Row[] = [
  elementary(ops.exp2, R.exp2, {
    forward: powerBound((x) => x * Math.LN2),
    backward: powerBound((x) => x * Math.LN2, 4),
    cases: [at([-200, -126, -1, 0, 1, 5, 10, 100, 127, 128, 1e4, ...NOT, ...TINY])],
  }),
  elementary(ops.expm1, R.expm1, {
    // Beyond 1/2 it is exp - 1.
    forward: plus(ulps(2), ({ inputs }) => (i) => {
      const x = floats(inputs, 0).data[i] ?? 0;
      return Math.abs(x) < 0.5 ? 0 : (3 + 2 * Math.abs(x)) * ulpAt(Math.exp(x));
    }),
    backward: plusOne(30),
    cases: [
      at([-1e4, -89, -0.5, -1e-3, 0, 1e-3, 0.4999, 0.5, 88, 1e4, ...NOT, ...TINY]),
      { name: "beside 0", inputs: [normal([50], 5, { std: 1e-3 })] },
    ],
  }),
  elementary(ops.log2, R.log2, {
    forward: ulps(2),
    backward: ulps(8),
    make: positive,
    cases: [
      at([0.25, 0.5, 1, 2, 1024, 3.4e38], { forward: ulps(0.5) }),
      at([1e-40, 0.999999, 1.0000001, 0, -0, -1, -1e30, ...NOT, 1e-30]),
    ],
  }),
  elementary(ops.log1p, R.log1p, {
    forward: ulps(3),
    backward: ulps(12),
    make: (shape, seed) => uniform(shape, seed, -0.9, 4),
    cases: [at([-1, -2, -0.999999, -1e-7, 0, 1e-7, 1e30, ...NOT, ...TINY])],
  }),
  elementary(ops.sin, R.sin, {
    forward: ulps(3),
    backward: plus(
      ulps(12),
      ({ dy }) =>
        (i) =>
          1e-12 * Math.abs(dy?.data[i] ?? 0),
    ),
    make: (shape, seed) => normal(shape, seed, { std: 9 }),
    cases: [at([0, -0, 0.5, 22, 355, 1e4, -1e4, 16367173, 1e22, 1e30, -3.4e38, ...NOT, ...TINY])],
  }),
  elementary(ops.cos, R.cos, {
    forward: ulps(3),
    backward: plus(
      ulps(12),
      ({ dy }) =>
        (i) =>
          1e-12 * Math.abs(dy?.data[i] ?? 0),
    ),
    make: (shape, seed) => normal(shape, seed, { std: 9 }),
    cases: [at([0, -0, 0.5, 22, 355, 1e4, -1e4, 16367173, 1e22, 1e30, -3.4e38, ...NOT, ...TINY])],
  }),
  elementary(ops.flatSqrt, (x) => R.sqrt(x), {
    forward: ulps(3),
    backward: ulps(12),
    make: positive,
    cases: [at([0, 1e-30, 3.4e38, Number.NaN, Infinity])],
  }),
];

const halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.49999997, 8388607.5, -8388609];
const far = [-1e30, -1e4, 1e4, 1e30, 0, -0, ...NOT];

const steps: readonly Row[] = [
  [ops.floor, R.floor] as const,
  [ops.ceil, R.ceil] as const,
  [ops.round, R.round] as const,
  [ops.trunc, R.trunc] as const,
  [ops.sign, R.sign] as const,
].map(([op, reference]) =>
  elementary(op, reference, {
    forward: exact,
    backward: exact,
    cases: [at([...halves, ...far])],
    // In halves some numbers lie on a step.
    halves: "forward",
  }),
);

/** Away from the kink at 0, where central differences see the mean of both slopes. */
const besideZero: Make = (shape, seed) =>
  R.map(normal(shape, seed, { std: 2 }), (v) => Math.fround(Math.abs(v) < 0.1 ? v - 0.5 : v));

const number = ({ a }: Attributes): number => Math.fround(Number(a));

const numbered: readonly Row[] = [
  row(ops.leakyRelu, {
    call: ([x], { a }) => ad.leakyRelu(given(x), Number(a)),
    reference: (inputs, attrs) => R.leakyRelu(floats(inputs, 0), number(attrs)),
    cases: [
      ...sizes(besideZero, { a: 0.01 }),
      { name: "slope -0.5", inputs: [besideZero([9], 5)], attrs: { a: -0.5 } },
      at([...far], { attrs: { a: 0.01 } }),
    ],
    forward: ulps(1),
    backward: ulps(4),
  }),
  row(ops.elu, {
    call: ([x], { a }) => ad.elu(given(x), Number(a)),
    reference: (inputs, attrs) => R.elu(floats(inputs, 0), number(attrs)),
    cases: [
      ...sizes(besideZero, { a: 1 }),
      { name: "alpha 0.7", inputs: [besideZero([9], 5)], attrs: { a: 0.7 } },
      at([-89, -1e-3, ...far], { attrs: { a: 1.5 } }),
    ],
    forward: plus(ulps(2), ({ inputs, attrs }) => (i) => {
      const x = Math.min(0, floats(inputs, 0).data[i] ?? 0);
      return x > -0.5 ? 0 : Math.abs(number(attrs)) * (3 + 2 * Math.abs(x)) * ulpAt(Math.exp(x));
    }),
    backward: powerBound((x) => x, 4),
  }),
  powers(),
];

function powers(): Row {
  const numbers = [3, 2, 1, 0, -1, -3, 7, 0.5, -0.5, 2.5, 64, 65, -70];
  const edges = [0, -0, 1, -1, 2, -2, 1e30, -1e30, 0.999, -0.999, ...NOT];
  const cases = [
    ...sizes(small, { a: 3 }),
    ...numbers.map((a) => ({ name: `^ ${a}`, inputs: [positive([3, 5], 5)], attrs: { a } })),
    ...[2, 3, -3].map((a) => ({ name: `^ ${a} of signs`, inputs: [besideZero([3, 5], 6)], attrs: { a } })),
    ...[0.5, 1 / 3, -1.5, 3, -2, 65, 10_000].map((a) => at(edges, { name: `^ ${a} of edges`, attrs: { a } })),
    // NaN stays NaN, which is all that differs from IEEE.
    at(edges.slice(0, -3).concat(Infinity, -Infinity), { name: "^ 0 of edges", attrs: { a: 0 } }),
    at([0.999, -1.001], { name: "^ 10000", attrs: { a: 10_000 } }),
  ];
  const exponent = (x: number, attrs: Attributes): number =>
    x === 0 || !Number.isFinite(x) ? 0 : Math.log(Math.abs(x)) * number(attrs);
  return row(ops.powNumber, {
    call: ([x], { a }) => ad.pow(given(x), Number(a)),
    reference: (inputs, attrs) => R.powNumber(floats(inputs, 0), number(attrs)),
    cases,
    // By products: half a rounding for each.
    forward: plus(powerBound(exponent), ({ attrs, expected }) => (i) => {
      const a = Math.abs(number(attrs));
      return a > 64 ? 0 : (a / 2) * ulpAt(expected.data[i] ?? 0);
    }),
    backward: plus(
      powerBound((x, attrs) => exponent(x, { a: number(attrs) - 1 }), 4),
      ({ attrs, expected }) =>
        (i) =>
          2 * Math.min(65, Math.abs(number(attrs))) * ulpAt(expected.data[i] ?? 0),
    ),
  });
}

/** Rows of one element in, one element out. */
export const elementaryRows: readonly Row[] = [...functions, ...steps, ...numbered];
