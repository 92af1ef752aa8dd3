// Rows of ops that lay elements out anew.
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { exact } from "./bounds.ts";
import { floats, given, normal, type Row, row } from "./row.ts";

type Widths = readonly (readonly [number, number])[];

const pad = row(ops.pad, {
  call: ([x], { widths, value }) => ad.pad(given(x), widths as Widths, Number(value ?? 0)),
  make: (shape, seed) => ({
    inputs: [normal(shape, seed)],
    attrs: { widths: shape.map((_, d) => [(d + seed) % 3, d % 2]), value: seed },
  }),
  reference: (inputs, { widths, value }) => R.pad(floats(inputs, 0), widths as Widths, Number(value ?? 0)),
  cases: [
    {
      name: "[3, 5, 7]",
      inputs: [normal([3, 5, 7], 1)],
      attrs: {
        widths: [
          [1, 0],
          [0, 2],
          [3, 1],
        ],
      },
    },
    {
      name: "with -1.5",
      inputs: [normal([4, 8], 2)],
      attrs: {
        widths: [
          [0, 0],
          [4, 4],
        ],
        value: -1.5,
      },
    },
    {
      name: "with -Infinity",
      inputs: [normal([1, 3], 3)],
      attrs: {
        widths: [
          [1, 1],
          [0, 1],
        ],
        value: Number.NEGATIVE_INFINITY,
      },
      gradient: false,
    },
    {
      name: "nothing",
      inputs: [normal([0, 3], 4)],
      attrs: {
        widths: [
          [1, 1],
          [0, 0],
        ],
      },
    },
    { name: "a scalar", inputs: [normal([], 5)], attrs: { widths: [] } },
  ],
  forward: exact,
  backward: exact,
  refuses: [
    {
      shapes: [[3, 4]],
      attrs: { widths: [[1, 1]] },
      message:
        /widths \[\[1, 1\]\] are not one \[before, after\] of 0 or more for each dimension of \[3, 4\]/,
    },
    { shapes: [[3]], attrs: { widths: [[-1, 1]] }, message: /widths \[\[-1, 1\]\]/ },
    { shapes: [[3]], attrs: { widths: [[0.5, 1]] }, message: /widths \[\[0.5, 1\]\]/ },
  ],
  // The gradient is a view.
  fused: true,
});

const flip = row(ops.flip, {
  call: ([x], { axes }) => ad.flip(given(x), axes as number[]),
  make: (shape, seed) => ({
    inputs: [normal(shape, seed)],
    attrs: { axes: [...shape.keys()].filter((d) => (d + seed) % 3 !== 0) },
  }),
  reference: (inputs, { axes }) => R.flip(floats(inputs, 0), axes as number[]),
  cases: [
    { name: "all of [3, 5, 7]", inputs: [normal([3, 5, 7], 1)], attrs: { axes: [0, 1, 2] } },
    { name: "[-1] of [2, 3, 4]", inputs: [normal([2, 3, 4], 2)], attrs: { axes: [-1] } },
    { name: "[0] of [1, 6]", inputs: [normal([1, 6], 3)], attrs: { axes: [0] } },
    { name: "none", inputs: [normal([4, 3], 4)], attrs: { axes: [] } },
    { name: "nothing", inputs: [normal([0, 3], 5)], attrs: { axes: [0, 1] } },
    { name: "a scalar", inputs: [normal([], 6)], attrs: { axes: [] } },
    { name: "rank 6", inputs: [normal([2, 1, 3, 2, 1, 2], 7)], attrs: { axes: [0, 2, 5] } },
  ],
  forward: exact,
  backward: exact,
  refuses: [{ shapes: [[3, 4]], attrs: { axes: [2] }, message: /dimension 2 is not one of a rank-2 array/ }],
});

export const layout: readonly Row[] = [pad, flip];
