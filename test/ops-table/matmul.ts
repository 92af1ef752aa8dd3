import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { activate, activatedCases } from "./activated.ts";
import { terms } from "./bounds.ts";
import { type Attributes, type Case, floats, given, normal, row, type Value } from "./row.ts";

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
  { name: "rank 6, broadcast both ways", M: 2, N: 3, K: 2, a: [2, 1, 2, 1], b: [3, 1, 2] },
  { name: "K = 0", M: 3, N: 4, K: 0 },
  { name: "no rows", M: 0, N: 4, K: 3, a: [2] },
  { name: "no columns", M: 3, N: 0, K: 4 },
  { name: "an empty batch", M: 2, N: 3, K: 4, a: [0], b: [0] },
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
            null,
          ],
          attrs: { transposeA, transposeB },
        });
      }
    }
  }
  // The error of a long sum.
  cases.push({
    name: "K = 4099",
    inputs: [normal([2, 4099], 3), normal([4099, 3], 4), null],
    gradient: false,
  });
  cases.push({
    name: "K = 4096",
    inputs: [normal([8, 4096], 5), normal([4096, 8], 6), null],
    gradient: false,
  });
  return cases;
}

/** Vectors, by PyTorch's rules. */
const vectors: readonly Case[] = (
  [
    ["a row and a matrix", [4], [4, 8], {}],
    ["a row and a transposed matrix", [5], [7, 5], { transposeB: true }],
    ["a row and a batch", [3], [2, 3, 5], {}],
    ["a matrix and a column", [8, 4], [4], {}],
    ["a transposed matrix and a column", [5, 3], [5], { transposeA: true }],
    ["a batch and a column", [2, 3, 7], [7], {}],
    ["two vectors", [9], [9], {}],
  ] as const
).map(([name, a, b, attrs], i) => ({
  name,
  inputs: [normal(a, 50 + 2 * i), normal(b, 51 + 2 * i), null],
  attrs,
}));

const many: readonly Case[] = [
  // More products, and more tiles, than a dimension of a grid holds.
  { name: "70,000 products", inputs: [normal([70_000, 2, 1], 70), normal([70_000, 1, 2], 71), null] },
  { name: "1,100,000 rows", inputs: [normal([1_100_000, 1], 72), normal([1, 1], 73), null] },
].map((c) => ({ ...c, gradient: false, kernels: "software" }));

const filled = (shape: readonly number[], value: number): R.RefTensor => R.map(R.ref(shape), () => value);

const extremes: readonly Case[] = [
  {
    name: "beyond f32",
    inputs: [filled([3, 4], 1e30), filled([4, 8], 1e30), null],
    gradient: false,
  },
  { name: "of 1e4", inputs: [filled([3, 5], 1e4), filled([5, 3], -1e4), null], gradient: false },
];

function product(inputs: readonly Value[], { transposeA, transposeB }: Attributes): R.RefTensor {
  const [a, b] = [floats(inputs, 0), floats(inputs, 1)];
  const [row, column] = [a.shape.length === 1, b.shape.length === 1];
  const left = row ? R.reshape(a, [1, ...a.shape]) : a;
  const right = column ? R.reshape(b, [...b.shape, 1]) : b;
  const bias = inputs[2] ? floats(inputs, 2) : null;
  const y = R.matmul(left, right, { ta: transposeA === true, tb: transposeB === true, bias });
  const shape = y.shape.slice(0, -2);
  if (!row) shape.push(y.shape.at(-2) ?? 0);
  if (!column) shape.push(y.shape.at(-1) ?? 0);
  return R.ref(shape, y.data);
}

export const matmul = row(ops.matmul, {
  call: ([a, b, bias = null], attrs) => ad.matmul(given(a), given(b), { ...attrs, bias }),
  reference: (inputs, attrs) => activate(product(inputs, attrs), attrs),
  magnitude: product,
  cases: [
    ...matmulCases(),
    ...vectors,
    ...many,
    ...extremes,
    { name: "bias", inputs: [normal([2, 5, 3], 80), normal([3, 7], 81), normal([7], 82)] },
    {
      name: "bias, one matrix each",
      inputs: [normal([2, 4, 4], 83), normal([2, 4, 8], 84), normal([8], 85)],
    },
    { name: "bias, K = 0", inputs: [normal([3, 0], 86), normal([0, 4], 87), normal([4], 88)] },
    { name: "bias of a row", inputs: [normal([4], 89), normal([4, 8], 90), normal([8], 91)] },
    ...activatedCases(product, {
      "of fours": [normal([2, 8, 4], 92), normal([4, 12], 93), normal([12], 94)],
      odd: [normal([7, 5], 95), normal([2, 5, 9], 96), null],
    }),
  ],
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
    { shapes: [[], [4, 5], null], message: /\[\] x \[4, 5\]; a scalar is no matrix, use mul/ },
    { shapes: [[4], [5], null], message: /inner sizes differ, \[4\] x \[5\] \(4 vs 5\)/ },
    {
      shapes: [[4], [4, 5], null],
      attrs: { transposeA: true },
      message: /transposeA of the vector \[4\]; leave it out/,
    },
    {
      shapes: [[5, 4], [4], null],
      attrs: { transposeB: true },
      message: /transposeB of the vector \[4\]; leave it out/,
    },
    { shapes: [[3, 4], [4, 5], [4]], message: /bias \[4\], expected \[5\]/ },
    { shapes: [[3, 4], [4], [3]], message: /bias \[3\], expected a matrix b, not \[4\]/ },
    {
      shapes: [[3, 4], [4, 5], null],
      attrs: { activation: "swish" },
      message: /activation "swish" is not one of relu, gelu/,
    },
  ],
  variants: true,
});
