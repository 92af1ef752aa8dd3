import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { activate, activatedCases } from "./activated.ts";
import { terms } from "./bounds.ts";
import { matmul } from "./matmul.ts";
import { type Attributes, floats, integers, normal, type Row, row, sizeOf, type Value } from "./row.ts";

function affine(inputs: readonly Value[]): R.RefTensor {
  return R.linear(floats(inputs, 0), floats(inputs, 1), inputs[2] ? floats(inputs, 2) : null);
}

const linear = row(ops.linear, {
  reference: (inputs, attrs) => activate(affine(inputs), attrs),
  magnitude: affine,
  cases: [
    { name: "odd", inputs: [normal([3, 5, 7], 1), normal([9, 7], 2), normal([9], 3)] },
    { name: "of fours", inputs: [normal([2, 10, 20], 4), normal([36, 20], 5), normal([36], 6)] },
    { name: "of fours, 3 rows", inputs: [normal([3, 8], 7), normal([4, 8], 8), normal([4], 9)] },
    { name: "without bias", inputs: [normal([5, 6], 10), normal([8, 6], 11), null] },
    { name: "a vector", inputs: [normal([12], 12), normal([5, 12], 13), normal([5], 14)] },
    { name: "no rows", inputs: [normal([0, 4], 15), normal([8, 4], 16), normal([8], 17)] },
    {
      name: "130 rows",
      inputs: [normal([130, 4], 18), normal([8, 4], 19), normal([8], 20)],
    },
    { name: "no inputs", inputs: [normal([3, 0], 21), normal([5, 0], 22), normal([5], 23)] },
    {
      name: "out odd, in of fours",
      inputs: [normal([9, 8], 24), normal([37, 8], 25), normal([37], 26)],
    },
    ...activatedCases(affine, {
      "of fours": [normal([2, 9, 8], 27), normal([36, 8], 28), normal([36], 29)],
      odd: [normal([7, 5], 30), normal([9, 5], 31), null],
    }),
  ],
  forward: terms(({ inputs }) => (floats(inputs, 0).shape.at(-1) ?? 1) + 1),
  backward: terms(130, 4),
  refuses: [
    { shapes: [[3, 7], [9, 6], null], message: /x \[3, 7\] does not fit weight \[9, 6\] \[out, in\]/ },
    { shapes: [[3, 7], [9, 7], [7]], message: /bias \[7\] does not fit weight \[9, 7\]/ },
    { shapes: [[3, 7], [7], null], message: /weight \[7\]/ },
    {
      shapes: [[3, 7], [9, 7], null],
      attrs: { activation: "swish" },
      message: /activation "swish" is not one of relu, gelu, geluTanh, silu, tanh, sigmoid/,
    },
  ],
  variants: true,
});

interface Bank {
  readonly name: string;
  readonly x: readonly number[];
  readonly weight: readonly [experts: number, out: number, inputs: number];
  readonly route: readonly number[];
  readonly bias?: false;
  readonly scale?: number;
}

const banks: readonly Bank[] = [
  { name: "one group", x: [3, 5, 7], weight: [4, 6, 7], route: [2] },
  { name: "a group for each example", x: [4, 3, 8], weight: [3, 12, 8], route: [1, 0, 1, 2] },
  { name: "a group for each example, odd", x: [4, 3, 5], weight: [3, 7, 5], route: [1, 0, 1, 2] },
  { name: "a group for each row", x: [6, 4], weight: [3, 8, 4], route: [0, 2, 2, 1, 0, 2] },
  { name: "a group for each row, odd", x: [5, 3], weight: [2, 5, 3], route: [0, 1, 1, 1, 0] },
  { name: "experts without rows", x: [2, 3, 4], weight: [5, 8, 4], route: [3, 3] },
  { name: "one expert", x: [2, 5, 8], weight: [1, 12, 8], route: [0] },
  { name: "without bias", x: [2, 3, 4], weight: [2, 4, 4], route: [1, 0], bias: false },
  { name: "scaled", x: [4, 8], weight: [2, 4, 8], route: [1, 0], scale: 8 },
  { name: "scaled, odd", x: [4, 5], weight: [2, 3, 5], route: [1, 0], scale: -0.3 },
];

function bankReference(inputs: readonly Value[], { scale = 1 }: Attributes): R.RefTensor {
  const x = floats(inputs, 0);
  const weight = floats(inputs, 1);
  const [, out = 0, columns = 0] = weight.shape;
  const scaled = R.map(
    R.reshape(x, [sizeOf(x.shape.slice(0, -1)), columns]),
    (v) => v * Math.fround(Number(scale)),
  );
  const y = R.bankLinear(scaled, weight, inputs[2] ? floats(inputs, 2) : null, integers(inputs, 3).data);
  return R.reshape(y, [...x.shape.slice(0, -1), out]);
}

const bankLinear = row(ops.bankLinear, {
  reference: bankReference,
  cases: banks.map(({ name, x, weight, route, bias, scale }, i) => ({
    name,
    inputs: [
      normal(x, 3 * i + 1),
      normal(weight, 3 * i + 2),
      bias === false ? null : normal(weight.slice(0, 2), 3 * i + 3),
      R.indices([route.length], route),
    ],
    attrs: scale === undefined ? {} : { scale },
  })),
  magnitude: (inputs, { scale = 1 }) => bankReference(inputs, { scale: Math.abs(Number(scale)) }),
  forward: terms(({ inputs }) => (floats(inputs, 0).shape.at(-1) ?? 1) + 2),
  backward: terms(48, 4),
  refuses: [
    { shapes: [[4, 7], [2, 5, 6], null, [1]], message: /x \[4, 7\] does not fit weight \[2, 5, 6\]/ },
    { shapes: [[4, 6], [2, 5, 6], [2, 6], [1]], message: /bias \[2, 6\] does not fit weight \[2, 5, 6\]/ },
    {
      shapes: [[4, 6], [2, 5, 6], null, [3]],
      message: /route \[3\] does not divide the 4 rows of x \[4, 6\]/,
    },
    { shapes: [[4, 6], [2, 5, 6], null, []], message: /route \[\] does not divide the 4 rows/ },
  ],
  variants: true,
});

/** Rows of matrix products. */
export const matrix: readonly Row[] = [matmul, linear, bankLinear];
