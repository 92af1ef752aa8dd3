// Functions that cut, join and turn, composed of ops. Rows of ops-table/composed.ts.
import * as ad from "../../src/autograd/index.ts";
import * as R from "../reference/index.ts";
import { exact, terms } from "./bounds.ts";
import { type Attributes, type ComposedRow, floats, given, normal, type Value } from "./row.ts";

const moved = { forward: exact, backward: exact };

/** Pieces in reverse order, joined again: what a row of one output can show of several. */
function reversed(pieces: readonly ad.Tensor[], axis: number): ad.Tensor {
  return ad.tidy(() => ad.concat([...pieces].reverse(), axis));
}

function reversedPieces(
  inputs: readonly Value[],
  sizes: number | readonly number[],
  axis: number,
): R.RefTensor {
  const x = floats(inputs, 0);
  const empty = R.ref(x.shape.map((n, d) => (d === (axis < 0 ? axis + x.shape.length : axis) ? 0 : n)));
  return R.concat([...R.split(x, sizes, { dim: axis }).reverse(), empty], { dim: axis });
}

const split: ComposedRow = {
  name: "split",
  call: ([x], { sizes = 2, axis = 0 }) =>
    ad.tidy(() => reversed(ad.split(given(x), sizes as number | number[], Number(axis)), Number(axis))),
  reference: (inputs, { sizes = 2, axis = 0 }) =>
    reversedPieces(inputs, sizes as number | number[], Number(axis)),
  cases: [
    { name: "[3, 5, 7] into 2 and 1", inputs: [normal([3, 5, 7], 1)] },
    { name: "[3, 5, 7] into 4 and 1 along 1", inputs: [normal([3, 5, 7], 2)], attrs: { sizes: 4, axis: 1 } },
    {
      name: "sizes 1, 0, 5 and 2 along -1",
      inputs: [normal([4, 8], 3)],
      attrs: { sizes: [1, 0, 5, 2], axis: -1 },
    },
    { name: "one piece", inputs: [normal([4, 3], 4)], attrs: { sizes: 9 } },
  ],
  ...moved,
  refuses: [
    {
      shapes: [[3, 4]],
      attrs: { sizes: [1, 1] },
      message: /split: sizes \[1, 1\] do not fill dimension 0 of \[3, 4\] \(3\)/,
    },
    { shapes: [[3, 4]], attrs: { sizes: [4, -1] }, message: /split: sizes \[4, -1\] do not fill/ },
    { shapes: [[3, 4]], attrs: { sizes: 0 }, message: /split: 0 is no size of a piece/ },
    { shapes: [[3, 4]], attrs: { axis: 2 }, message: /split: dimension 2 is not one of a rank-2 array/ },
  ],
};

const chunk: ComposedRow = {
  name: "chunk",
  call: ([x], { count = 3, axis = 0 }) =>
    ad.tidy(() => reversed(ad.chunk(given(x), Number(count), Number(axis)), Number(axis))),
  reference: (inputs, { count = 3, axis = 0 }) => {
    const length = floats(inputs, 0).shape.at(Number(axis)) ?? 0;
    return reversedPieces(inputs, Math.max(1, Math.ceil(length / Number(count))), Number(axis));
  },
  cases: [
    { name: "three of [3, 5, 7]", inputs: [normal([3, 5, 7], 1)] },
    { name: "two of 5", inputs: [normal([2, 5], 2)], attrs: { count: 2, axis: 1 } },
    { name: "four of 6, which are three", inputs: [normal([2, 6], 3)], attrs: { count: 4, axis: -1 } },
    { name: "more than there are", inputs: [normal([2, 3], 4)], attrs: { count: 9 } },
  ],
  ...moved,
  refuses: [{ shapes: [[3, 4]], attrs: { count: 0 }, message: /chunk: 0 is no number of chunks/ }],
};

/** A function that only changes the shape. */
function reshaping(
  name: string,
  call: (x: ad.Tensor, attrs: Attributes) => ad.Tensor,
  shape: (from: readonly number[], attrs: Attributes) => number[],
  rest: Pick<ComposedRow, "cases" | "refuses" | "without">,
): ComposedRow {
  return {
    name,
    call: ([x], attrs) => call(given(x), attrs),
    reference: (inputs, attrs) => {
      const x = floats(inputs, 0);
      return R.reshape(x, shape(x.shape, attrs));
    },
    ...moved,
    ...rest,
  };
}

const unsqueeze = reshaping(
  "unsqueeze",
  (x, { axis = 0 }) => ad.unsqueeze(x, Number(axis)),
  (from, { axis = 0 }) => {
    const at = Number(axis) < 0 ? Number(axis) + from.length + 1 : Number(axis);
    return [...from.slice(0, at), 1, ...from.slice(at)];
  },
  {
    cases: [
      { name: "first", inputs: [normal([3, 5, 7], 1)] },
      { name: "last", inputs: [normal([3, 4], 2)], attrs: { axis: -1 } },
      { name: "a scalar", inputs: [normal([], 3)] },
    ],
    // It makes a dimension more.
    without: ["rank 6"],
    refuses: [
      {
        shapes: [[3, 4]],
        attrs: { axis: 3 },
        message: /unsqueeze: dimension 3 is not one of a rank-3 array/,
      },
    ],
  },
);

const squeeze = reshaping(
  "squeeze",
  (x, { axis }) => ad.squeeze(x, axis as number | undefined),
  (from, { axis }) => {
    const only = axis === undefined ? null : Number(axis) < 0 ? Number(axis) + from.length : Number(axis);
    return from.filter((n, d) => n !== 1 || (only !== null && d !== only));
  },
  {
    cases: [
      { name: "all of [3, 1, 5, 1]", inputs: [normal([3, 1, 5, 1], 1)] },
      { name: "the last of [3, 1, 5, 1]", inputs: [normal([3, 1, 5, 1], 2)], attrs: { axis: -1 } },
      { name: "one that is longer", inputs: [normal([3, 1], 3)], attrs: { axis: 0 } },
      { name: "[1, 1]", inputs: [normal([1, 1], 4)] },
    ],
    refuses: [
      { shapes: [[3, 4]], attrs: { axis: 2 }, message: /squeeze: dimension 2 is not one of a rank-2 array/ },
    ],
  },
);

const flatten = reshaping(
  "flatten",
  (x, { start, end }) => ad.flatten(x, start as number | undefined, end as number | undefined),
  (from, { start = 0, end = -1 }) => {
    if (from.length === 0) return [1];
    const [a, b] = [start, end].map((d) => (Number(d) < 0 ? Number(d) + from.length : Number(d))) as [
      number,
      number,
    ];
    return [...from.slice(0, a), from.slice(a, b + 1).reduce((x, y) => x * y, 1), ...from.slice(b + 1)];
  },
  {
    cases: [
      { name: "all of [3, 5, 7]", inputs: [normal([3, 5, 7], 1)] },
      { name: "1 to 2 of [2, 3, 4, 5]", inputs: [normal([2, 3, 4, 5], 2)], attrs: { start: 1, end: 2 } },
      { name: "-2 to -2", inputs: [normal([2, 3], 3)], attrs: { start: -2, end: -2 } },
      { name: "a scalar", inputs: [normal([], 4)] },
    ],
    refuses: [
      {
        shapes: [[3, 4]],
        attrs: { start: 1, end: 0 },
        message: /flatten: dimension 1 comes after 0 of \[3, 4\]/,
      },
      { shapes: [[3, 4]], attrs: { start: 2 }, message: /flatten: dimension 2 is not one of/ },
    ],
  },
);

const tile: ComposedRow = {
  name: "tile",
  call: ([x], { repeats = [2, 3] }) => ad.tile(given(x), repeats as number[]),
  reference: (inputs, { repeats = [2, 3] }) => R.tile(floats(inputs, 0), repeats as number[]),
  cases: [
    { name: "[3, 5, 7] by 2 and 3", inputs: [normal([3, 5, 7], 1)] },
    { name: "a vector by 2 and 3", inputs: [normal([5], 2)] },
    { name: "[2, 4] by 1 and 2", inputs: [normal([2, 4], 3)], attrs: { repeats: [1, 2] } },
    { name: "[2, 4] by 0", inputs: [normal([2, 4], 4)], attrs: { repeats: [0] } },
    { name: "a scalar by nothing", inputs: [normal([], 5)], attrs: { repeats: [] } },
  ],
  forward: exact,
  // Every element is the sum of its copies.
  backward: terms(6, 4),
  refuses: [
    { shapes: [[3, 4]], attrs: { repeats: [-1] }, message: /tile: repeats \[-1\] are not whole numbers/ },
  ],
};

/** Elements of matrices whose column - row is as it must be. */
function triangle(inputs: readonly Value[], holds: (distance: number) => boolean): R.RefTensor {
  const x = floats(inputs, 0);
  const [rows = 1, columns = 1] = x.shape.slice(-2);
  const distance = (i: number): number => (i % columns) - (Math.floor(i / columns) % rows);
  return { ...x, data: x.data.map((value, i) => (holds(distance(i)) ? value : 0)) };
}

function triangleRow(
  name: string,
  fn: (x: ad.Tensor, diagonal: number) => ad.Tensor,
  holds: (distance: number, diagonal: number) => boolean,
): ComposedRow {
  return {
    name,
    call: ([x], { diagonal = 0 }) => fn(given(x), Number(diagonal)),
    reference: (inputs, { diagonal = 0 }) =>
      triangle(inputs, (distance) => holds(distance, Number(diagonal))),
    cases: [0, 1, -2, 99, -99].map((diagonal) => ({
      name: `[2, 5, 7], diagonal ${diagonal}`,
      inputs: [normal([2, 5, 7], 3 + diagonal)],
      attrs: { diagonal },
    })),
    without: ["scalar", "vector", "one"],
    ...moved,
    refuses: [
      { shapes: [[4]], message: new RegExp(`${name}: \\[4\\] is no matrix`) },
      {
        shapes: [[3, 4]],
        attrs: { diagonal: 0.5 },
        message: new RegExp(`${name}: diagonal 0.5 is no whole number`),
      },
    ],
  };
}

export const composedLayout: readonly ComposedRow[] = [
  split,
  chunk,
  unsqueeze,
  squeeze,
  flatten,
  tile,
  triangleRow("tril", ad.tril, (distance, diagonal) => distance <= diagonal),
  triangleRow("triu", ad.triu, (distance, diagonal) => distance >= diagonal),
];
