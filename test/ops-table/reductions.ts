// Rows of what is found or added up along dimensions.
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { absolute, exact, largest, plus, slope, terms, ulps } from "./bounds.ts";
import { type Attributes, type Case, floats, given, normal, type Row, row } from "./row.ts";

const axesOf = ({ axes, keepDim }: Attributes): R.ReduceOptions => ({
  dims: axes as number[] | undefined,
  keepDim: keepDim === true,
});

const keepOf = ({ keepDim }: Attributes) => ({ keepDim: keepDim === true });

const shapes: readonly (readonly [shape: readonly number[], axes?: readonly number[], keepDim?: boolean])[] =
  [
    [[3, 5, 7]],
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
    [[0, 3], [1]],
  ];

/** More than one step. */
const long: readonly (readonly [shape: readonly number[], axes: readonly number[]])[] = [
  [[3, 10_001], [1]],
  [[5000, 3], [0]],
  [[2, 70_001], [1]],
];

function cases(): Case[] {
  return [
    ...shapes.map(([shape, axes, keepDim], i) => ({
      name: `[${shape.join(", ")}] over ${axes ? `[${axes.join(", ")}]` : "all"}${keepDim ? ", kept" : ""}`,
      inputs: [normal(shape, i + 1)],
      attrs: { axes, keepDim },
    })),
    ...long.map(([shape, axes], i) => ({
      name: `[${shape.join(", ")}] over [${axes.join(", ")}]`,
      inputs: [normal(shape, i + 20)],
      attrs: { axes },
      gradient: false as const,
    })),
  ];
}

const rows = (values: readonly (readonly number[])[]): R.RefTensor =>
  R.ref([values.length, values[0]?.length ?? 0], values.flat().map(Math.fround));

const edges = rows([
  [1, Number.NaN, 3],
  [-Infinity, -1e30, -Infinity],
  [Infinity, 1e30, -1],
  [-0, -0, -0],
  [1e-45, -1e-45, 0],
  [-1e30, -1e4, -2],
]);

const extremes: readonly Row[] = [[ops.max, R.max] as const, [ops.min, R.min] as const].map(
  ([op, reference]) =>
    row(op, {
      call: ([x], attrs) =>
        (op === ops.max ? ad.max : ad.min)(given(x), attrs.axes as number[], keepOf(attrs)),
      reference: (inputs, attrs) => reference(floats(inputs, 0), axesOf(attrs)),
      cases: [
        ...cases(),
        { name: "edges", inputs: [edges], attrs: { axes: [1] }, gradient: false },
        {
          name: "pairs of equals",
          inputs: [
            rows([
              [1, 5, 5, 2],
              [-3, -3, 0, 0],
            ]),
          ],
          attrs: { axes: [1] },
        },
      ],
      forward: exact,
      // dy by the number of equals.
      backward: ulps(3),
      refuses: [
        { shapes: [[3, 4]], attrs: { axes: [2] }, message: /dimension 2 is not one of a rank-2 array/ },
        { shapes: [[3, 0]], attrs: { axes: [1] }, message: /dimension 1 of \[3, 0\] has no elements/ },
      ],
    }),
);

function alongOne({ axis }: Attributes, x: R.RefTensor): { x: R.RefTensor; dim: number } {
  return axis === undefined ? { x: R.reshape(x, [x.data.length]), dim: 0 } : { x, dim: Number(axis) };
}

const places: readonly Row[] = [[ops.argmax, R.argmax] as const, [ops.argmin, R.argmin] as const].map(
  ([op, reference]) =>
    row(op, {
      call: ([x], attrs) =>
        (op === ops.argmax ? ad.argmax : ad.argmin)(given(x), attrs.axis as number, keepOf(attrs)),
      reference: (inputs, attrs) => {
        const { x, dim } = alongOne(attrs, floats(inputs, 0));
        const { shape, data } = reference(x, { dim });
        const kept = floats(inputs, 0).shape.map((n, d) => (d === dim ? 1 : n));
        return R.ref(attrs.keepDim ? kept : shape, data);
      },
      cases: [
        { name: "[3, 5, 7] of all", inputs: [normal([3, 5, 7], 1)] },
        { name: "[3, 5, 7] along -1", inputs: [normal([3, 5, 7], 2)], attrs: { axis: 2 } },
        {
          name: "[3, 5, 7] along 1, kept",
          inputs: [normal([3, 5, 7], 3)],
          attrs: { axis: 1, keepDim: true },
        },
        { name: "[6, 4] along 0", inputs: [normal([6, 4], 4)], attrs: { axis: 0 } },
        { name: "edges", inputs: [edges], attrs: { axis: 1 } },
        { name: "edges along 0", inputs: [edges], attrs: { axis: 0 } },
        { name: "[2, 50257]", inputs: [normal([2, 50_257], 5)], attrs: { axis: 1 } },
        {
          name: "[70001, 2] along 0",
          inputs: [R.map(normal([70_001, 2], 6), Math.round)],
          attrs: { axis: 0 },
        },
        { name: "scalar", inputs: [normal([], 7)] },
        { name: "no rows", inputs: [normal([0, 3], 8)], attrs: { axis: 1 } },
      ].map((c) => ({ ...c, gradient: false as const })),
      forward: exact,
      backward: exact,
      refuses: [
        { shapes: [[3, 0]], attrs: { axis: 1 }, message: /dimension 1 of \[3, 0\] has no elements/ },
        { shapes: [[3, 4]], attrs: { axis: 2 }, message: /dimension 2 is not one of a rank-2 array/ },
      ],
    }),
);

const logSumExp = row(ops.logSumExp, {
  call: ([x], attrs) => ad.logSumExp(given(x), attrs.axes as number[], keepOf(attrs)),
  reference: (inputs, attrs) => R.logSumExp(floats(inputs, 0), axesOf(attrs)),
  cases: [
    ...cases(),
    { name: "far apart", inputs: [normal([4, 9], 40, { std: 1e3 })], attrs: { axes: [1] } },
    {
      name: "edges",
      inputs: [
        rows([
          [1, Number.NaN, 3],
          [-Infinity, -Infinity, -Infinity],
          [Infinity, 1, -Infinity],
          [-Infinity, 2, 1],
          [1e30, 1e30, -1e30],
          [-1e30, -1e30, -1e30],
        ]),
      ],
      attrs: { axes: [1] },
      gradient: false,
    },
    { name: "of nothing", inputs: [normal([3, 0], 41)], attrs: { axes: [1] } },
  ],
  forward: (context) => absolute(2e-6 + 4e-7 * finite(floats(context.inputs, 0)))(context),
  backward: (context) =>
    plus(
      slope(0),
      absolute(4 * (2e-6 + 4e-7 * largest(floats(context.inputs, 0))) * largest(context.dy)),
    )(context),
  refuses: [{ shapes: [[3, 4]], attrs: { axes: [2] }, message: /dimension 2 is not one of a rank-2 array/ }],
});

/** The largest magnitude that is finite. */
function finite({ data }: R.RefTensor): number {
  return largest({ data: data.filter(Number.isFinite) });
}

const scans: readonly (readonly [shape: readonly number[], axis: number])[] = [
  [[3, 5, 7], 2],
  [[3, 5, 7], 0],
  [[3, 5, 7], -2],
  [[4, 8], 1],
  [[1], 0],
  [[0, 3], 0],
  [[3, 70], 1],
];
const options: readonly object[] = [
  {},
  { exclusive: true },
  { reverse: true },
  { exclusive: true, reverse: true },
];

const cumsum = row(ops.cumsum, {
  call: ([x], { axis, ...rest }) => ad.cumsum(given(x), Number(axis), rest),
  reference: (inputs, { axis, exclusive, reverse }) =>
    R.cumsum(floats(inputs, 0), Number(axis), { exclusive: exclusive === true, reverse: reverse === true }),
  cases: [
    ...scans.flatMap(([shape, axis], i) =>
      options.map((option) => ({
        name: `[${shape.join(", ")}] along ${axis}, ${Object.keys(option).join(" and ") || "plain"}`,
        inputs: [normal(shape, i + 1)],
        attrs: { axis, ...option },
      })),
    ),
    ...[[2, 50_257, 1] as const, [3, 5000, 2] as const].map((shape, i) => ({
      name: `[${shape.join(", ")}] along 1`,
      inputs: [normal(shape, i + 20, { mean: 1 })],
      attrs: { axis: 1, reverse: i === 1 },
      gradient: false as const,
    })),
    {
      name: "Infinity and NaN",
      inputs: [
        rows([
          [1, Infinity, 2, -Infinity, 3],
          [1, Number.NaN, 2, 3, 4],
        ]),
      ],
      attrs: { axis: 1 },
      gradient: false,
    },
  ],
  forward: terms(({ inputs, attrs }) => floats(inputs, 0).shape.at(Number(attrs.axis)) ?? 1),
  backward: terms(({ inputs, attrs }) => floats(inputs, 0).shape.at(Number(attrs.axis)) ?? 1, 4),
  refuses: [
    { shapes: [[3, 4]], attrs: { axis: 2 }, message: /dimension 2 is not one of a rank-2 array/ },
    { shapes: [[]], attrs: { axis: 0 }, message: /dimension 0 is not one of a rank-0 array/ },
  ],
});

/** Whole numbers, so that there are equals; the same in f32. */
const coarse = (shape: readonly number[], seed: number, std = 3): R.RefTensor =>
  R.map(normal(shape, seed, { std }), Math.round);

const odd = rows([
  [Number.NaN, 1, -Infinity, 0, Infinity, -0, Number.NaN, 1e-45, -1e30],
  [5, 5, 5, 5, 5, 5, 5, 5, 5],
  [-1, -2, -3, -4, -5, -6, -7, -8, -9],
]);

const ordered: readonly Case[] = [
  { name: "[3, 5, 7]", inputs: [normal([3, 5, 7], 1)] },
  { name: "[5, 16]", inputs: [coarse([5, 16], 2)] },
  { name: "[5, 17]", inputs: [coarse([5, 17], 3)] },
  { name: "[3, 32]", inputs: [coarse([3, 32], 4)] },
  { name: "[3, 33]", inputs: [coarse([3, 33], 5)] },
  { name: "[2, 1000]", inputs: [coarse([2, 1000], 6, 50)] },
  { name: "edges", inputs: [odd] },
  { name: "[2, 50257]", inputs: [coarse([2, 50_257], 7, 1e4)] },
  { name: "[70001, 3]", inputs: [normal([70_001, 3], 8)] },
  { name: "[1]", inputs: [normal([1], 9)] },
];

const argsort = row(ops.argsort, {
  call: ([x], { descending }) => ad.argsort(given(x), -1, { descending: descending === true }),
  reference: (inputs, { descending }) => {
    const { shape, data } = R.argsort(floats(inputs, 0), { descending: descending === true });
    return R.ref(shape, data);
  },
  cases: [
    ...ordered.flatMap((c) =>
      [false, true].map((descending) => ({
        ...c,
        name: `${c.name}${descending ? " downwards" : ""}`,
        attrs: { descending },
      })),
    ),
    { name: "nothing", inputs: [normal([3, 0], 10)] },
  ].map((c) => ({ ...c, gradient: false as const })),
  forward: exact,
  backward: exact,
  refuses: [{ shapes: [[]], message: /\[\] has no last dimension to sort/ }],
});

const topK = row(ops.topKIndices, {
  call: ([x], { k, largest }) =>
    ad.tidy(() => ad.topK(given(x), Number(k), -1, { largest: largest !== false }).indices),
  reference: (inputs, { k, largest: isLargest }) => {
    const { shape, data } = R.topK(floats(inputs, 0), Number(k), { largest: isLargest !== false });
    return R.ref(shape, data);
  },
  cases: [
    ...ordered.flatMap((c) => {
      const [x] = c.inputs;
      // Long rows take the references a while: one way each.
      const isLong = (x?.data.length ?? 0) > 10_000;
      return [1, 5, 100, 300]
        .filter((k) => k <= (x?.shape.at(-1) ?? 0))
        .flatMap((k) =>
          (isLong ? [k !== 5] : [true, false]).map((most) => ({
            ...c,
            name: `${k} of ${c.name}${most ? "" : " smallest"}`,
            attrs: { k, largest: most },
          })),
        );
    }),
    { name: "all of edges", inputs: [odd], attrs: { k: 9 } },
    { name: "none of [3, 5]", inputs: [normal([3, 5], 10)], attrs: { k: 0 } },
    { name: "of no rows", inputs: [normal([0, 5], 11)], attrs: { k: 2 } },
  ].map((c) => ({ ...c, gradient: false as const })),
  forward: exact,
  backward: exact,
  refuses: [
    { shapes: [[3, 4]], attrs: { k: 5 }, message: /k is 5, expected 0\.\.4, the last size of \[3, 4\]/ },
    { shapes: [[3, 4]], attrs: { k: 1.5 }, message: /k is 1.5/ },
    { shapes: [[]], attrs: { k: 1 }, message: /\[\] has no last dimension/ },
  ],
});

/** Rows of extremes, running sums and order. */
export const reductions: readonly Row[] = [...extremes, ...places, logSumExp, cumsum, argsort, topK];
