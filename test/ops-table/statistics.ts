// Public functions that are composed of ops: statistics, logic, and values in order.

import type { Tensor } from "../../src/autograd/index.ts";
import * as ad from "../../src/autograd/index.ts";
import * as R from "../reference/index.ts";
import { absolute, type Bound, type Context, exact, largest, plus, terms, ulps } from "./bounds.ts";
import {
  type Attributes,
  type Case,
  type ComposedRow,
  floats,
  given,
  integers,
  normal,
  type Refusal,
  sizeOf,
  type Value,
} from "./row.ts";

const axesOf = ({ axes }: Attributes) => axes as readonly number[] | undefined;
const keepOf = ({ keepDim }: Attributes) => ({ keepDim: keepDim === true });
const correctionOf = ({ correction }: Attributes) => ({ correction: correction === 0 ? 0 : 1 });
const reduceOf = (attrs: Attributes) => ({ dims: axesOf(attrs), ...keepOf(attrs) });
const varianceOf = (inputs: readonly Value[], attrs: Attributes): R.RefTensor =>
  R.variance(floats(inputs, 0), { ...reduceOf(attrs), unbiased: attrs.correction !== 0 });

const spread: readonly Case[] = [
  { name: "of all", inputs: [normal([3, 5, 7], 1)] },
  {
    name: "over [1], kept",
    inputs: [normal([3, 5, 8], 2)],
    attrs: { axes: [1], keepDim: true, correction: 0 },
  },
  { name: "over [0, 2]", inputs: [normal([3, 5, 7], 3)], attrs: { axes: [0, 2] } },
  { name: "over [-1]", inputs: [normal([4, 64], 4)], attrs: { axes: [-1], correction: 0 } },
];

/** What rounding leaves of a sum of n squares of differences whose terms were rounded. */
const squares: Bound = ({ inputs, expected }) => {
  const n = sizeOf(floats(inputs, 0).shape) / Math.max(1, expected.data.length);
  return ulps(8 + Math.sqrt(n))({ expected } as Context);
};

const far: readonly Case[] = [
  {
    name: "far from 0",
    inputs: [normal([3, 300], 5, { mean: 1000 })],
    attrs: { axes: [1] },
    gradient: false,
  },
  { name: "of 1e15", inputs: [normal([2, 9], 6, { std: 1e15 })], attrs: { axes: [1] }, gradient: false },
];

const refusals: readonly Refusal[] = [
  { shapes: [[3, 4]], attrs: { axes: [2] }, message: /dimension 2 is not one of a rank-2 array/ },
  {
    shapes: [[3, 1]],
    attrs: { axes: [1] },
    message: /1 elements with correction 1 leave nothing to divide by/,
  },
];

const variance: ComposedRow = {
  name: "variance",
  call: ([x], attrs) => ad.variance(given(x), axesOf(attrs), { ...keepOf(attrs), ...correctionOf(attrs) }),
  reference: varianceOf,
  cases: [...spread, ...far, { name: "of equals", inputs: [R.ref([5], 3)] }],
  forward: squares,
  // 2 (x - mean) / n: the difference is of numbers up to the largest.
  backward: (context) =>
    plus(
      ulps(8),
      absolute(16 * 2 ** -24 * largest(context.dy) * largest(floats(context.inputs, 0))),
    )(context),
  refuses: refusals,
};

const std: ComposedRow = {
  ...variance,
  name: "std",
  call: ([x], attrs) => ad.std(given(x), axesOf(attrs), { ...keepOf(attrs), ...correctionOf(attrs) }),
  reference: (inputs, attrs) => R.sqrt(varianceOf(inputs, attrs)),
  cases: [...spread, ...far],
  // Squares beyond 1.8e19 overflow.
  without: ["1e30"],
};

const norm: ComposedRow = {
  name: "norm",
  call: ([x], attrs) => ad.norm(given(x), axesOf(attrs), keepOf(attrs)),
  reference: (inputs, attrs) => R.l2Norm(floats(inputs, 0), reduceOf(attrs)),
  cases: [
    ...spread,
    { name: "of 1e15", inputs: [normal([2, 9], 6, { std: 1e15 })], attrs: { axes: [1] }, gradient: false },
  ],
  // Squares beyond 1.8e19 overflow.
  without: ["1e30"],
  forward: squares,
  backward: (context) => ulps(4 * (8 + Math.sqrt(floats(context.inputs, 0).data.length)))(context),
  refuses: refusals.slice(0, 1),
};

/** Zeros and ones, NaN among them. */
const bits = (shape: readonly number[], seed: number): R.RefTensor =>
  R.map(normal(shape, seed), (v) => Number(v > 0.5));
const truth: readonly Case[] = [
  { name: "[3, 5, 7] over [1]", inputs: [bits([3, 5, 7], 1)], attrs: { axes: [1] } },
  { name: "[3, 5] of all", inputs: [bits([3, 5], 2)] },
  { name: "of NaN and -0", inputs: [R.ref([3, 1], [Number.NaN, -0, 1e-45])], attrs: { axes: [1] } },
  { name: "of nothing", inputs: [R.ref([2, 0])], attrs: { axes: [1], keepDim: true } },
].map((c) => ({ ...c, gradient: false as const }));

const isTrue = (v: number): number => Number(v !== 0);

const any: ComposedRow = {
  name: "any",
  call: ([x], attrs) => ad.any(given(x), axesOf(attrs), keepOf(attrs)),
  reference: (inputs, attrs) => R.map(R.sum(R.map(floats(inputs, 0), isTrue), reduceOf(attrs)), isTrue),
  cases: truth,
  forward: exact,
  backward: exact,
  refuses: refusals.slice(0, 1),
};

const all: ComposedRow = {
  ...any,
  name: "all",
  call: ([x], attrs) => ad.all(given(x), axesOf(attrs), keepOf(attrs)),
  reference: (inputs, attrs) => {
    const others = R.sum(
      R.map(floats(inputs, 0), (v) => 1 - isTrue(v)),
      reduceOf(attrs),
    );
    return R.map(others, (v) => Number(v === 0));
  },
};

const flags = (shape: readonly number[], seed: number): R.RefIndices =>
  R.indices(shape, bits(shape, seed).data);

const logicalNot: ComposedRow = {
  name: "logicalNot",
  call: ([x]) => ad.logicalNot(given(x)),
  reference: (inputs) => R.map(floats(inputs, 0), (v) => 1 - isTrue(v)),
  cases: truth.map(({ attrs: _, ...c }) => c),
  forward: exact,
  backward: exact,
};

function logical(
  name: string,
  fn: (a: Tensor, b: Tensor) => Tensor,
  f: (a: number, b: number) => number,
): ComposedRow {
  return {
    name,
    call: ([a, b]) => ad.tidy(() => fn(given(a).to("bool"), given(b).to("bool"))),
    reference: (inputs) => {
      const [a, b] = [integers(inputs, 0), integers(inputs, 1)].map(({ shape, data }) => R.ref(shape, data));
      return R.zip(a as R.RefTensor, b as R.RefTensor, f);
    },
    casts: true,
    cases: [
      { name: "[3, 5]", inputs: [flags([3, 5], 1), flags([3, 5], 2)], gradient: false },
      { name: "[3, 1] with [5]", inputs: [flags([3, 1], 3), flags([5], 4)], gradient: false },
    ],
    forward: exact,
    backward: exact,
    refuses: [
      {
        shapes: [
          [3, 5],
          [4, 5],
        ],
        message: /\[3, 5\] and \[4, 5\] do not broadcast/,
      },
    ],
  };
}

const maskedFill: ComposedRow = {
  name: "maskedFill",
  call: ([x, mask], { value }) =>
    ad.tidy(() => ad.maskedFill(given(x), given(mask).to("bool"), Number(value))),
  reference: (inputs, { value }) => {
    const { shape, data } = integers(inputs, 1);
    return R.maskedFill(floats(inputs, 0), R.ref(shape, data), Number(value));
  },
  magnitude: (inputs) => R.add(floats(inputs, 0), R.ref(integers(inputs, 1).shape)),
  cases: [
    { name: "[3, 5]", inputs: [normal([3, 5], 1), flags([3, 5], 2)], attrs: { value: -1e9 } },
    {
      name: "[2, 3, 6] by [2, 1, 6]",
      inputs: [normal([2, 3, 6], 3), flags([2, 1, 6], 4)],
      attrs: { value: 2 },
    },
  ],
  casts: true,
  forward: exact,
  // Sums over what was stretched.
  backward: terms(48, 4),
  refuses: [
    {
      shapes: [
        [3, 5],
        [4, 5],
      ],
      message: /\[4, 5\] and \[3, 5\] do not broadcast/,
    },
  ],
};

/** Distinct numbers: an order that no central difference changes. */
const distinct = (shape: readonly number[], seed: number): R.RefTensor => normal(shape, seed, { std: 3 });
const axisOf = ({ axis }: Attributes): number => Number(axis ?? -1);

function picked(x: R.RefTensor, order: R.RefIndices, axis: number): R.RefTensor {
  const last = x.shape.length - 1;
  const at = axis < 0 ? axis + x.shape.length : axis;
  const exchange = [...x.shape.keys()];
  [exchange[at], exchange[last]] = [last, at];
  const moved = R.permute(R.ref(order.shape, order.data), exchange);
  const values = R.gatherLast(R.permute(x, exchange), R.indices(moved.shape, moved.data));
  return R.permute(values, exchange);
}

const topK: ComposedRow = {
  name: "topK values",
  call: ([x], { k, axis, largest: most }) =>
    ad.tidy(() => ad.topK(given(x), Number(k), Number(axis ?? -1), { largest: most !== false }).values),
  reference: (inputs, attrs) => {
    const x = floats(inputs, 0);
    const options = { dim: axisOf(attrs), largest: attrs.largest !== false };
    return picked(x, R.topK(x, Number(attrs.k), options), axisOf(attrs));
  },
  cases: [
    { name: "2 of [3, 5, 7]", inputs: [distinct([3, 5, 7], 1)], attrs: { k: 2 } },
    {
      name: "3 smallest along 1",
      inputs: [distinct([3, 5, 4], 2)],
      attrs: { k: 3, axis: 1, largest: false },
    },
    { name: "4 of [4] along 0", inputs: [distinct([4], 3)], attrs: { k: 4, axis: 0 } },
  ],
  forward: exact,
  backward: exact,
  refuses: [
    { shapes: [[3, 4]], attrs: { k: 5 }, message: /topK: k is 5, expected 0\.\.4/ },
    { shapes: [[3, 4]], attrs: { k: 1, axis: 2 }, message: /topK: dimension 2 is not one of a rank-2 array/ },
  ],
};

const sort: ComposedRow = {
  name: "sort values",
  call: ([x], { axis, descending }) =>
    ad.tidy(() => ad.sort(given(x), Number(axis ?? -1), { descending: descending === true }).values),
  reference: (inputs, attrs) => {
    const x = floats(inputs, 0);
    const options = { dim: axisOf(attrs), descending: attrs.descending === true };
    return picked(x, R.argsort(x, options), axisOf(attrs));
  },
  cases: [
    { name: "[3, 5, 7]", inputs: [distinct([3, 5, 7], 1)] },
    { name: "downwards along 0", inputs: [distinct([6, 4], 2)], attrs: { axis: 0, descending: true } },
    // Beyond 1,024 positions other kernels group the gradient's rows.
    { name: "[1, 1100]", inputs: [distinct([1, 1100], 3)] },
  ],
  forward: exact,
  backward: exact,
  refuses: [
    { shapes: [[3, 4]], attrs: { axis: 2 }, message: /sort: dimension 2 is not one of a rank-2 array/ },
  ],
};

const argsort: ComposedRow = {
  name: "argsort along an axis",
  call: ([x], { axis, descending }) =>
    ad.argsort(given(x), Number(axis), { descending: descending === true }),
  reference: (inputs, attrs) => {
    const options = { dim: axisOf(attrs), descending: attrs.descending === true };
    const { shape, data } = R.argsort(floats(inputs, 0), options);
    return R.ref(shape, data);
  },
  cases: [
    { name: "[3, 5, 4] along 1", inputs: [distinct([3, 5, 4], 1)], attrs: { axis: 1 }, gradient: false },
    {
      name: "[6, 4] along 0",
      inputs: [distinct([6, 4], 2)],
      attrs: { axis: 0, descending: true },
      gradient: false,
    },
  ],
  forward: exact,
  backward: exact,
  refuses: [
    { shapes: [[3, 4]], attrs: { axis: 2 }, message: /argsort: dimension 2 is not one of a rank-2 array/ },
  ],
};

export const statistics: readonly ComposedRow[] = [
  variance,
  std,
  norm,
  any,
  all,
  logicalNot,
  logical("logicalAnd", ad.logicalAnd, (a, b) => a & b),
  logical("logicalOr", ad.logicalOr, (a, b) => a | b),
  maskedFill,
  topK,
  sort,
  argsort,
];
