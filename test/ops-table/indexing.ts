// Rows of ops that read and write at indices.
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { exact, terms } from "./bounds.ts";
import { floats, given, integers, normal, type Row, row, sizeOf } from "./row.ts";

/** Whole numbers of 0..n-1, unevenly spread: some repeat, some are missing. */
function indicesOf(shape: readonly number[], n: number, seed = 0): R.RefIndices {
  const values = Array.from({ length: sizeOf(shape) }, (_, i) => (i * i + 3 * i + seed) % n);
  return R.indices(shape, values);
}

const gather = row(ops.gather, {
  call: ([x, indices], { axis }) => ad.gather(given(x), Number(axis), given(indices)),
  reference: (inputs, { axis }) => R.gather(floats(inputs, 0), integers(inputs, 1), { dim: Number(axis) }),
  cases: [
    {
      name: "axis -2 of [3, 5, 7]",
      inputs: [normal([3, 5, 7], 1), indicesOf([3, 4, 7], 5)],
      attrs: { axis: -2 },
    },
    { name: "the last axis", inputs: [normal([4, 9], 2), indicesOf([4, 1], 9)], attrs: { axis: -1 } },
    { name: "axis 0", inputs: [normal([5, 8], 3), indicesOf([9, 8], 5)], attrs: { axis: 0 } },
    {
      name: "fewer indices than elements elsewhere",
      inputs: [normal([4, 5, 6], 4), indicesOf([3, 2, 5], 5)],
      attrs: { axis: 1 },
    },
    { name: "300 of one dimension", inputs: [normal([7], 5), indicesOf([300], 7)], attrs: { axis: 0 } },
    {
      name: "300 of one dimension, from a part of x",
      inputs: [normal([2, 7], 6), indicesOf([1, 300], 7)],
      attrs: { axis: 1 },
    },
    {
      name: "rank 6",
      inputs: [normal([2, 1, 3, 2, 2, 2], 7), indicesOf([2, 1, 4, 2, 2, 2], 3)],
      attrs: { axis: 2 },
    },
    { name: "no indices", inputs: [normal([3, 4], 8), R.indices([0, 4], [])], attrs: { axis: 0 } },
  ],
  forward: exact,
  backward: terms(300, 4),
  refuses: [
    { shapes: [[3, 4], [3]], attrs: { axis: 1 }, message: /indices \[3\] do not fit \[3, 4\]/ },
    {
      shapes: [
        [3, 4],
        [4, 4],
      ],
      attrs: { axis: 1 },
      message: /indices \[4, 4\] do not fit \[3, 4\]: .* none longer but dimension 1/,
    },
    {
      shapes: [
        [3, 4],
        [3, 4],
      ],
      attrs: { axis: 2 },
      message: /dimension 2 is not one of a rank-2 array/,
    },
    { shapes: [[], []], attrs: { axis: 0 }, message: /dimension 0 is not one of a rank-0 array/ },
  ],
});

const indexSelect = row(ops.indexSelect, {
  call: ([x, indices], { axis }) => ad.indexSelect(given(x), Number(axis), given(indices)),
  reference: (inputs, { axis }) =>
    R.indexSelect(floats(inputs, 0), integers(inputs, 1), { dim: Number(axis) }),
  cases: [
    { name: "axis -2 of [3, 5, 7]", inputs: [normal([3, 5, 7], 1), indicesOf([6], 5)], attrs: { axis: -2 } },
    { name: "axis 0, of fours", inputs: [normal([5, 8], 2), indicesOf([9], 5)], attrs: { axis: 0 } },
    { name: "the last axis", inputs: [normal([2, 3, 9], 3), indicesOf([4], 9)], attrs: { axis: -1 } },
    { name: "a vector", inputs: [normal([9], 4), indicesOf([4], 9)], attrs: { axis: 0 } },
    { name: "200 rows", inputs: [normal([2, 3, 2], 5), indicesOf([200], 3)], attrs: { axis: 1 } },
    {
      name: "one row 150 times",
      inputs: [normal([2, 4], 6), R.indices([150], new Array(150).fill(1))],
      attrs: { axis: 0 },
    },
    { name: "no indices", inputs: [normal([3, 4], 7), R.indices([0], [])], attrs: { axis: 0 } },
  ],
  forward: exact,
  backward: terms(200, 4),
  refuses: [
    {
      shapes: [
        [3, 4],
        [2, 2],
      ],
      attrs: { axis: 0 },
      message: /indices \[2, 2\] are not one-dimensional; see gather/,
    },
    { shapes: [[3, 4], [2]], attrs: { axis: -3 }, message: /dimension -3 is not one of a rank-2 array/ },
  ],
});

const scatterAdd = row(ops.scatterAdd, {
  call: ([x, indices, source], { axis }) =>
    ad.scatterAdd(given(x), Number(axis), given(indices), given(source)),
  reference: (inputs, { axis }) =>
    R.scatterAdd(floats(inputs, 0), integers(inputs, 1), floats(inputs, 2), { dim: Number(axis) }),
  cases: [
    {
      name: "axis -2 of [3, 5, 7]",
      inputs: [normal([3, 5, 7], 1), indicesOf([3, 4, 7], 5), normal([3, 4, 7], 2)],
      attrs: { axis: -2 },
    },
    {
      name: "the last axis",
      inputs: [normal([4, 9], 3), indicesOf([4, 12], 9), normal([4, 12], 4)],
      attrs: { axis: -1 },
    },
    {
      name: "less than x elsewhere",
      inputs: [normal([4, 5, 6], 5), indicesOf([3, 7, 5], 5), normal([3, 7, 5], 6)],
      attrs: { axis: 1 },
    },
    {
      name: "200 into a vector",
      inputs: [normal([7], 7), indicesOf([200], 7), normal([200], 8)],
      attrs: { axis: 0 },
    },
    {
      name: "70 a row, into a part of x",
      inputs: [normal([4, 5], 9), indicesOf([3, 70], 5), normal([3, 70], 10)],
      attrs: { axis: 1 },
    },
    {
      name: "nothing",
      inputs: [normal([3, 4], 11), R.indices([3, 0], []), normal([3, 0], 12)],
      attrs: { axis: 1 },
    },
  ],
  forward: terms(200),
  backward: exact,
  refuses: [
    {
      shapes: [
        [3, 4],
        [3, 2],
        [3, 3],
      ],
      attrs: { axis: 1 },
      message: /source \[3, 3\] and indices \[3, 2\] differ in shape/,
    },
    {
      shapes: [
        [3, 4],
        [4, 2],
        [4, 2],
      ],
      attrs: { axis: 1 },
      message: /indices \[4, 2\] do not fit \[3, 4\]/,
    },
  ],
});

const oneHot = row(ops.oneHot, {
  // There are no floats.
  halves: false,
  call: ([ids], { classes }) => ad.oneHot(given(ids), Number(classes)),
  reference: (inputs, { classes }) => {
    const ids = integers(inputs, 0);
    const n = Number(classes);
    const out = R.ref([...ids.shape, n]);
    for (const [i, id] of ids.data.entries()) {
      if (id >= 0 && id < n) out.data[i * n + id] = 1;
      else out.data.fill(Number.NaN, i * n, (i + 1) * n);
    }
    return out;
  },
  cases: [
    {
      name: "[2, 3] of 5",
      inputs: [R.indices([2, 3], [0, 4, 2, 1, -1, 5])],
      attrs: { classes: 5 },
      gradient: false,
    },
    { name: "[30] of 40", inputs: [indicesOf([30], 40)], attrs: { classes: 40 }, gradient: false },
    { name: "a scalar", inputs: [R.indices([], [2])], attrs: { classes: 3 }, gradient: false },
    { name: "no classes", inputs: [R.indices([2], [0, 1])], attrs: { classes: 0 }, gradient: false },
  ],
  forward: exact,
  backward: exact,
  refuses: [
    {
      shapes: [[1, 1, 1, 1, 1, 2]],
      attrs: { classes: 3 },
      message: /ids \[1, 1, 1, 1, 1, 2\] leave no dimension/,
    },
    { shapes: [[3]], attrs: { classes: -1 }, message: /-1 is no number of classes/ },
    { shapes: [[3]], attrs: { classes: 1.5 }, message: /1.5 is no number of classes/ },
  ],
});

export const indexing: readonly Row[] = [gather, indexSelect, scatterAdd, oneHot];
