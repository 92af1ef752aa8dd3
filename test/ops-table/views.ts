import type { DType } from "../../src/array/index.ts";
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { exact, terms } from "./bounds.ts";
import { type Case, floats, given, normal, type Row, row, sizeOf } from "./row.ts";

const moved = { forward: exact, backward: exact };

const reshape = row(ops.reshape, {
  call: ([x], { shape }) => ad.reshape(given(x), shape as number[]),
  reference: (inputs, { shape }) => R.reshape(floats(inputs, 0), shape as number[]),
  cases: [
    { name: "[3, 5, 7] to [7, 15]", inputs: [normal([3, 5, 7], 1)], attrs: { shape: [7, 15] } },
    { name: "[4, 6] to [-1, 2, 3]", inputs: [normal([4, 6], 2)], attrs: { shape: [-1, 2, 3] } },
    { name: "[1, 1] to a scalar", inputs: [normal([1, 1], 3)], attrs: { shape: [] } },
  ],
  make: (shape, seed) => ({ inputs: [normal(shape, seed)], attrs: { shape: [...shape].reverse() } }),
  ...moved,
  refuses: [
    {
      shapes: [[3, 4]],
      attrs: { shape: [5, 2] },
      message: /\[3, 4\] \(12 elements\) does not fill \[5, 2\]/,
    },
    { shapes: [[3, 4]], attrs: { shape: [-1, 5] }, message: /does not fill \[-1, 5\]/ },
    { shapes: [[3, 4]], attrs: { shape: [-1, -1] }, message: /does not fill \[-1, -1\]/ },
  ],
});

// Roundings have no central differences: test/dtypes.test.ts has their values and gradients.
const cast = row(ops.cast, {
  call: ([x], { to }) => ad.cast(given(x), to as DType),
  reference: (inputs, { to }) =>
    R.map(floats(inputs, 0), (v) => (to === "i32" ? Math.trunc(v) : to === "bool" ? Number(v !== 0) : v)),
  cases: [
    { name: "[3, 5, 7] to f32", inputs: [normal([3, 5, 7], 1)], attrs: { to: "f32" } },
    {
      name: "[3, 5, 7] to i32",
      inputs: [normal([3, 5, 7], 2, { std: 9 })],
      attrs: { to: "i32" },
      gradient: false,
    },
    { name: "[3] to bool", inputs: [R.ref([3], [0, -0, 1e-38])], attrs: { to: "bool" }, gradient: false },
  ],
  ...moved,
});

const permute = row(ops.permute, {
  call: ([x], { order }) => ad.permute(given(x), order as number[]),
  reference: (inputs, { order }) => R.permute(floats(inputs, 0), order as number[]),
  cases: [
    { name: "[3, 5, 7] by 2, 0, 1", inputs: [normal([3, 5, 7], 1)], attrs: { order: [2, 0, 1] } },
    {
      name: "[2, 4, 3, 8] by 0, -2, 1, -1",
      inputs: [normal([2, 4, 3, 8], 2)],
      attrs: { order: [0, -2, 1, -1] },
    },
  ],
  make: (shape, seed) => ({
    inputs: [normal(shape, seed)],
    attrs: { order: [...shape.keys()].map((d) => (d + 1) % shape.length) },
  }),
  ...moved,
  refuses: [
    {
      shapes: [[3, 4]],
      attrs: { order: [0, 0] },
      message: /\[0, 0\] is no order of the 2 dimensions of \[3, 4\]/,
    },
    { shapes: [[3, 4]], attrs: { order: [0, 2] }, message: /dimension 2 is not one of a rank-2 array/ },
  ],
});

const expand = row(ops.expand, {
  call: ([x], { shape }) => ad.expand(given(x), shape as number[]),
  reference: (inputs, { shape }) => R.expand(floats(inputs, 0), shape as number[]),
  cases: [
    { name: "[3, 1, 7] to [3, 5, 7]", inputs: [normal([3, 1, 7], 1)], attrs: { shape: [3, 5, 7] } },
    { name: "[4] to [2, 3, 4]", inputs: [normal([4], 2)], attrs: { shape: [2, 3, 4] } },
    { name: "a scalar to [2, 3]", inputs: [normal([], 3)], attrs: { shape: [2, 3] } },
  ],
  make: (shape, seed) => ({
    inputs: [
      normal(
        shape.map((n, d) => ((d + seed) % 2 === 0 ? n : 1)),
        seed,
      ),
    ],
    attrs: { shape },
  }),
  forward: exact,
  backward: terms(67, 4),
  refuses: [
    { shapes: [[3, 4]], attrs: { shape: [5, 4] }, message: /\[3, 4\] does not stretch to \[5, 4\]/ },
    { shapes: [[3, 4]], attrs: { shape: [4] }, message: /\[3, 4\] does not stretch to \[4\]/ },
  ],
});

const slice = row(ops.slice, {
  call: ([x], { axis, start, end }) => ad.slice(given(x), Number(axis), Number(start), Number(end)),
  reference: (inputs, attrs) => {
    const x = floats(inputs, 0);
    const [axis, start, end] = [Number(attrs.axis), Number(attrs.start), Number(attrs.end)];
    const n = x.shape.at(axis) ?? 0;
    const whole = x.shape.map((size): [number, number] => [0, size]);
    whole[axis < 0 ? axis + x.shape.length : axis] = [start < 0 ? start + n : start, end < 0 ? end + n : end];
    return R.slice(x, whole);
  },
  cases: [
    { name: "[3, 5, 7] rows 1..4", inputs: [normal([3, 5, 7], 1)], attrs: { axis: 1, start: 1, end: 4 } },
    {
      name: "[3, 5, 7] columns -3..-1",
      inputs: [normal([3, 5, 7], 2)],
      attrs: { axis: -1, start: -3, end: -1 },
    },
    { name: "[6, 64] from 2", inputs: [normal([6, 64], 3)], attrs: { axis: 0, start: 2, end: 6 } },
    { name: "nothing of [3, 4]", inputs: [normal([3, 4], 4)], attrs: { axis: 0, start: 1, end: 1 } },
  ],
  make(shape, seed) {
    const axis = seed % Math.max(1, shape.length);
    const start = Math.min(1, shape[axis] ?? 0);
    return { inputs: [normal(shape, seed)], attrs: { axis, start, end: shape[axis] ?? 0 } };
  },
  ...moved,
  refuses: [
    {
      shapes: [[3, 4]],
      attrs: { axis: 1, start: 2, end: 5 },
      message: /2\.\.5 is not inside dimension 1 of \[3, 4\] \(0\.\.4\)/,
    },
    { shapes: [[3, 4]], attrs: { axis: 0, start: 2, end: 1 }, message: /2\.\.1 is not inside dimension 0/ },
    { shapes: [[3, 4]], attrs: { axis: 2, start: 0, end: 1 }, message: /dimension 2/ },
  ],
});

const concat = row(ops.concat, {
  call: (inputs, { axis }) => ad.concat(inputs.map(given), Number(axis)),
  reference: (inputs, { axis }) =>
    R.concat(
      inputs.map((_, i) => floats(inputs, i)),
      { dim: Number(axis) },
    ),
  cases: [
    {
      name: "[3, 5, 7] and [3, 2, 7]",
      inputs: [normal([3, 5, 7], 1), normal([3, 2, 7], 2)],
      attrs: { axis: 1 },
    },
    {
      name: "three along -1",
      inputs: [normal([2, 4], 3), normal([2, 1], 4), normal([2, 8], 5)],
      attrs: { axis: -1 },
    },
    { name: "one", inputs: [normal([3, 4], 6)], attrs: { axis: 0 } },
    { name: "an empty one", inputs: [normal([0, 4], 7), normal([3, 4], 8)], attrs: { axis: 0 } },
  ],
  ...moved,
  refuses: [
    {
      shapes: [
        [3, 5],
        [4, 6],
      ],
      attrs: { axis: 0 },
      message: /\[3, 5\] and \[4, 6\] differ outside dimension 0/,
    },
    { shapes: [[3, 5], [3]], attrs: { axis: 0 }, message: /\[3, 5\] and \[3\] differ/ },
    { shapes: [], attrs: { axis: 0 }, message: /no arrays/ },
  ],
  // Gradients are views: no dispatch is there to be saved.
  fused: true,
});

const sums: readonly (readonly [shape: readonly number[], axes?: readonly number[], keepDim?: boolean])[] = [
  [[3, 5, 7]],
  [[4, 8, 16]],
  [[3, 5, 7], [-1]],
  [[3, 5, 8], [2], true],
  [[3, 5, 7], [0]],
  [[6, 5, 8], [0], true],
  [[3, 5, 7], [1]],
  [
    [3, 5, 7],
    [0, 2],
  ],
  [[2, 3, 4, 5], [1, 3], true],
  [[3, 4], []],
  [[], []],
  [[0, 3], [0]],
];

/** Sums that central differences are too slow for: long ones, and more rows than one grid dimension holds. */
const long: readonly (readonly [shape: readonly number[], axes: readonly number[]])[] = [
  [[3, 10_001], [1]],
  [[2, 20_000], [1]],
  [[5000, 3], [0]],
  [[70_001, 2], [1]],
];

const summed: readonly Case[] = [
  ...sums.map(([shape, axes, keepDim], i) => ({
    name: `[${shape.join(", ")}] over ${axes ? `[${axes.join(", ")}]` : "all"}${keepDim ? ", kept" : ""}`,
    inputs: [normal(shape, i + 1)],
    attrs: { axes, keepDim },
  })),
  ...long.map(([shape, axes], i) => ({
    name: `[${shape.join(", ")}] over [${axes.join(", ")}]`,
    inputs: [normal(shape, i + 20, { mean: 1 })],
    attrs: { axes },
    gradient: false as const,
    ...((shape[0] ?? 0) > 65_535 && { kernels: "software" as const }),
  })),
];

const sum = row(ops.sum, {
  call: ([x], { axes, keepDim }) =>
    ad.sum(given(x), axes as number[] | undefined, { keepDim: keepDim === true }),
  reference: (inputs, { axes, keepDim }) =>
    R.sum(floats(inputs, 0), { dims: axes as number[] | undefined, keepDim: keepDim === true }),
  cases: summed,
  forward: terms(
    ({ inputs, expected }) => sizeOf(floats(inputs, 0).shape) / Math.max(1, expected.data.length),
  ),
  backward: exact,
  refuses: [
    {
      shapes: [[3, 4]],
      attrs: { axes: [2] },
      message: /dimension 2 is not one of a rank-2 array \(-2\.\.1\)/,
    },
  ],
  variants: true,
});

/** Rows of ops that move elements, and of the sum over dimensions. */
export const views: readonly Row[] = [cast, reshape, permute, expand, slice, concat, sum];
