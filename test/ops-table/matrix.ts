import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { terms } from "./bounds.ts";
import {
  type Attributes,
  type Case,
  floats,
  integers,
  normal,
  type Row,
  row,
  sizeOf,
  type Value,
} from "./row.ts";

interface MatmulSizes {
  readonly name: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a?: readonly number[];
  readonly b?: readonly number[];
}

// Each kernel has its sizes: those with vec4 loads want multiples of 4; tiles are 16 x 16, 16 x 32, 32 x 32, 64 x 64.
const matmulSizes: readonly MatmulSizes[] = [
  { name: "odd", M: 5, N: 7, K: 3 },
  { name: "of fours", M: 20, N: 36, K: 8 },
  { name: "of fours, K odd", M: 8, N: 12, K: 5 },
  { name: "one by one", M: 1, N: 1, K: 1 },
  { name: "tall", M: 37, N: 4, K: 4 },
  { name: "wide", M: 1, N: 68, K: 9 },
  { name: "a batch", M: 3, N: 8, K: 4, a: [2, 3], b: [2, 3] },
  { name: "an odd batch", M: 3, N: 5, K: 2, a: [3], b: [3] },
  { name: "one b for all", M: 4, N: 8, K: 4, a: [2, 3], b: [] },
  { name: "one a for all", M: 4, N: 5, K: 3, a: [], b: [4] },
  { name: "broadcast", M: 2, N: 4, K: 3, a: [3, 1], b: [2] },
];

function matmulCases(): Case[] {
  const cases: Case[] = [];
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      for (const { name, M, N, K, a = [], b = [] } of matmulSizes) {
        const marks = `${transposeA ? "aᵀ" : "a"} ${transposeB ? "bᵀ" : "b"}`;
        cases.push({
          name: `${marks} ${name}`,
          inputs: [
            normal([...a, ...(transposeA ? [K, M] : [M, K])], 1),
            normal([...b, ...(transposeB ? [N, K] : [K, N])], 2),
          ],
          attrs: { transposeA, transposeB },
        });
      }
    }
  }
  // The error of a long sum.
  cases.push({ name: "K = 4099", inputs: [normal([2, 4099], 3), normal([4099, 3], 4)], gradient: false });
  cases.push({ name: "K = 4096", inputs: [normal([8, 4096], 5), normal([4096, 8], 6)], gradient: false });
  return cases;
}

const matmul = row(ops.matmul, {
  reference: (inputs, { transposeA, transposeB }) =>
    R.matmul(floats(inputs, 0), floats(inputs, 1), { ta: transposeA === true, tb: transposeB === true }),
  cases: matmulCases(),
  forward: terms(({ inputs, attrs }) => floats(inputs, 0).shape.at(attrs.transposeA ? -2 : -1) ?? 1),
  // Sums of at most 48 products.
  backward: terms(48, 4),
  refuses: [
    {
      shapes: [
        [8, 128, 768],
        [512, 64],
      ],
      message: /inner sizes differ, \[8, 128, 768\] x \[512, 64\] \(768 vs 512\)/,
    },
    {
      shapes: [
        [3, 4],
        [3, 5],
      ],
      attrs: { transposeB: true },
      message: /\[3, 4\] x \[3, 5\]ᵀ \(4 vs 5\)/,
    },
    {
      shapes: [
        [2, 3, 4],
        [3, 4, 5],
      ],
      message: /\[2\] and \[3\] do not broadcast \(2 vs 3\)/,
    },
    { shapes: [[4], [4, 5]], message: /\[4\] x \[4, 5\]; both need at least two dimensions/ },
  ],
  variants: true,
});

const linear = row(ops.linear, {
  reference: (inputs) => R.linear(floats(inputs, 0), floats(inputs, 1), inputs[2] ? floats(inputs, 2) : null),
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
  ],
  forward: terms(({ inputs }) => (floats(inputs, 0).shape.at(-1) ?? 1) + 1),
  backward: terms(130, 4),
  refuses: [
    { shapes: [[3, 7], [9, 6], null], message: /x \[3, 7\] does not fit weight \[9, 6\] \[out, in\]/ },
    { shapes: [[3, 7], [9, 7], [7]], message: /bias \[7\] does not fit weight \[9, 7\]/ },
    { shapes: [[3, 7], [7], null], message: /weight \[7\]/ },
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
