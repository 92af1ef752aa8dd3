import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { absolute, type Context, exact, largest, terms } from "./bounds.ts";
import { type Case, floats, given, integers, normal, type Row, row, sizeOf, type Value } from "./row.ts";

export const far = R.ref([2, 4], [1e4, -1e4, 9999.5, 0, -1e4, -1e4, -9998, -10001]);
export const farOdd = R.ref([2, 3], [-1e4, 1e4, 9999, 3e4, 3e4, -3e4]);

const logits: readonly Case[] = [
  { name: "[3, 5, 7]", inputs: [normal([3, 5, 7], 1, { std: 3 })] },
  { name: "[4, 64]", inputs: [normal([4, 64], 2, { std: 3 })] },
  { name: "[2, 300]", inputs: [normal([2, 300], 3)] },
  { name: "[5, 1]", inputs: [normal([5, 1], 4)] },
  { name: "of 1e4", inputs: [far] },
  { name: "of 1e4, odd", inputs: [farOdd] },
  { name: "of equal values", inputs: [R.ref([2, 6], -7)] },
  {
    name: "of masked values",
    inputs: [R.ref([2, 4], [-1e9, -1e9, 1, 2, -3.4e38, 0, -3.4e38, -3.4e38])],
    gradient: false,
  },
  { name: "[2, 5003]", inputs: [normal([2, 5003], 5)], gradient: false },
  { name: "[3, 4096]", inputs: [normal([3, 4096], 6)], gradient: false },
];
const noColumns = [{ shapes: [[3, 0]], message: /\[3, 0\] has no last dimension/ }];

const softmax = row(ops.softmax, {
  workgroup: "row",
  reference: (inputs) => R.softmax(floats(inputs, 0)),
  cases: logits,
  forward: absolute(3e-7),
  backward: ({ dy }) => {
    const error = 4 * 3e-7 * largest(dy);
    return () => error;
  },
  refuses: noColumns,
  variants: true,
});

/** 2e-6 + 4e-7 max|x|: what log-softmax and cross-entropy are allowed. */
export function logError({ inputs }: Context): number {
  return 2e-6 + 4e-7 * largest(floats(inputs, 0));
}

const logSoftmax = row(ops.logSoftmax, {
  workgroup: "row",
  reference: (inputs) => R.logSoftmax(floats(inputs, 0)),
  cases: logits,
  forward: (context) => absolute(logError(context))(context),
  // dx = dy - p Σ dy: the sum has as many terms as there are columns.
  backward: (context) => absolute(4 * logError(context) * Math.max(1, rowSum(context.dy)))(context),
  refuses: noColumns,
  variants: true,
});

/** The largest Σ|v| of a row. */
function rowSum(x: R.RefTensor | null): number {
  return x ? largest(R.sum(R.map(x, Math.abs), { dims: [-1] })) : 0;
}

const normOf = (
  x: R.RefTensor,
  weight = normal([x.shape.at(-1) ?? 1], 90),
  eps = 1e-5,
): Pick<Case, "inputs" | "attrs"> => ({
  inputs: [x, weight, normal(weight.shape, 91)],
  attrs: { eps },
});

/** (5e-6 + 1e-7 |mean|/std) times what it is multiplied with; `inputs`: what is normalised, weight, bias. */
function normError({ inputs, attrs, dy }: Context, isInput: boolean): number {
  const x = floats(inputs, 0);
  const means = R.mean(x, { dims: [-1] });
  const deviations = R.sqrt(R.map(R.variance(x, { dims: [-1] }), (v) => v + Number(attrs.eps)));
  const ratio = largest(R.div(means, deviations));
  const error = (5e-6 + 1e-7 * ratio) * Math.max(1, largest(floats(inputs, 1)));
  if (!dy) return error;
  // dx is multiplied with 1 / std; dweight adds up all rows.
  const factor = isInput ? Math.max(1, largest(R.recip(deviations))) : Math.sqrt(means.data.length);
  return 4 * error * largest(dy) * factor;
}

const layerNorm = row(ops.layerNorm, {
  call: ([x, weight, bias], { eps }) => ad.layerNorm(given(x), given(weight), given(bias), Number(eps)),
  workgroup: "row",
  reference: (inputs, { eps }) =>
    R.layerNorm(floats(inputs, 0), floats(inputs, 1), floats(inputs, 2), { eps: Number(eps) }),
  cases: [
    { name: "[3, 5, 7]", ...normOf(normal([3, 5, 7], 1)) },
    { name: "[2, 3, 64]", ...normOf(normal([2, 3, 64], 2, { mean: 1 })) },
    { name: "[70, 4], eps 1e-12", ...normOf(normal([70, 4], 3), undefined, 1e-12) },
    { name: "[67, 3]", ...normOf(normal([67, 3], 4)) },
    { name: "mean 1000 std", ...normOf(normal([3, 24], 5, { mean: 1000 })) },
    { name: "mean -1000 std, odd", ...normOf(normal([3, 21], 6, { mean: -3000, std: 3 })) },
    { name: "a constant row", ...normOf(R.concat([R.ref([1, 12], 3.1), normal([2, 12], 7)])) },
    { name: "one column", ...normOf(normal([4, 1], 8)) },
    { name: "[2, 1001]", ...normOf(normal([2, 1001], 9)), gradient: false },
    // Sums start from the mean of the first elements.
    {
      name: "begins far from its mean",
      ...normOf(R.concat([normal([5, 32], 10, { mean: 4000 }), normal([5, 2016], 11)], { dim: 1 })),
      gradient: false,
    },
  ],
  forward: (context) => absolute(normError(context, true))(context),
  backward: (context) => absolute(normError(context, context.expected.shape.length > 1))(context),
  refuses: [
    { shapes: [[3, 7], [6], [7]], attrs: { eps: 1e-5 }, message: /weight is \[6\], expected \[7\]/ },
    { shapes: [[3, 7], [7], [1, 7]], attrs: { eps: 1e-5 }, message: /bias is \[1, 7\], expected \[7\]/ },
    { shapes: [[3, 0], [0], [0]], attrs: { eps: 1e-5 }, message: /\[3, 0\] has no last dimension/ },
  ],
  variants: true,
  // dweight and dbias come from one kernel.
  fused: true,
});

/** The inputs of addLayerNorm as layerNorm has them. */
const summed = (context: Context): Context => {
  const [, , weight = null, bias = null] = context.inputs;
  return { ...context, inputs: [R.add(floats(context.inputs, 0), floats(context.inputs, 1)), weight, bias] };
};

const addNormOf = (x: R.RefTensor, residual: R.RefTensor): Pick<Case, "inputs" | "attrs"> => {
  const { inputs, attrs } = normOf(x);
  return { inputs: [x, residual, ...inputs.slice(1)], attrs: attrs ?? {} };
};

const addLayerNorm = row(ops.addLayerNorm, {
  call: ([x, residual, weight, bias], { eps }) =>
    ad.addLayerNorm(given(x), given(residual), given(weight), given(bias), Number(eps)),
  workgroup: "row",
  reference: (inputs, { eps }) =>
    R.layerNorm(R.add(floats(inputs, 0), floats(inputs, 1)), floats(inputs, 2), floats(inputs, 3), {
      eps: Number(eps),
    }),
  cases: [
    { name: "[3, 5, 7]", ...addNormOf(normal([3, 5, 7], 1), normal([3, 5, 7], 11)) },
    { name: "[2, 3, 64]", ...addNormOf(normal([2, 3, 64], 2, { mean: 1 }), normal([2, 3, 64], 12)) },
    {
      name: "mean 1000 std",
      ...addNormOf(normal([3, 24], 5, { mean: 500 }), normal([3, 24], 6, { mean: 500 })),
    },
    {
      name: "sums of 0",
      ...addNormOf(R.ref([2, 12], 3), R.concat([R.ref([1, 12], -3), normal([1, 12], 7)])),
    },
    { name: "[2, 1001]", ...addNormOf(normal([2, 1001], 9), normal([2, 1001], 10)), gradient: false },
  ],
  forward: (context) => absolute(normError(summed(context), true))(context),
  backward: (context) => absolute(normError(summed(context), context.expected.shape.length > 1))(context),
  refuses: [
    {
      shapes: [[3, 7], [7], [7], [7]],
      attrs: { eps: 1e-5 },
      message: /residual is \[7\], expected \[3, 7\]/,
    },
    { shapes: [[3, 7], [3, 7], [6], [7]], attrs: { eps: 1e-5 }, message: /weight is \[6\], expected \[7\]/ },
    { shapes: [[3, 0], [3, 0], [0], [0]], attrs: { eps: 1e-5 }, message: /\[3, 0\] has no last dimension/ },
  ],
  variants: true,
  fused: true,
});

/** Whole numbers of 0..n-1, unevenly spread. */
export function idsOf(shape: readonly number[], n: number, seed: number): R.RefIndices {
  return R.indices(
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => (i * i + seed) % n),
  );
}

const ids = R.indices([2, 4], [3, 0, 3, 6, 1, 3, 0, 5]);

const embedding = row(ops.embedding, {
  reference: (inputs) => R.embedding(floats(inputs, 0), integers(inputs, 1)),
  correct: (gradient, _index, { paddingIndex }) =>
    paddingIndex === undefined ? gradient : R.zeroRow(gradient, Number(paddingIndex)),
  cases: [
    { name: "repeated ids", inputs: [normal([7, 5], 1), ids] },
    { name: "repeated ids, of fours", inputs: [normal([7, 8], 2), ids] },
    { name: "with padding", inputs: [normal([7, 5], 3), ids], attrs: { paddingIndex: 3 } },
    { name: "one id", inputs: [normal([9, 4], 4), R.indices([], [8])] },
    { name: "no ids", inputs: [normal([3, 4], 5), R.indices([0], [])] },
    {
      name: "300 ids",
      inputs: [
        normal([3, 2], 6),
        R.indices(
          [300],
          Array.from({ length: 300 }, (_, i) => (i * i) % 3),
        ),
      ],
    },
  ],
  make: (shape, seed) => ({
    inputs: [normal([7, ...shape.slice(-1)], seed), idsOf(shape.slice(0, -1), 7, seed)],
  }),
  workgroup: 64,
  forward: exact,
  backward: terms(300, 4),
  refuses: [{ shapes: [[7], [2]], message: /table \[7\] is not \[rows, columns\]/ }],
});

const twoPasses = (a: R.RefTensor, seed: number): readonly Value[] =>
  [a, R.add(a, normal(a.shape, seed))].map(rounded);
const rounded = (x: R.RefTensor) => R.map(x, Math.fround);

const symmetricKl = row(ops.symmetricKl, {
  reference: (inputs, { gradient, reduction = "mean" }, fixed) => {
    const [p, q] = [floats(inputs, 0), floats(inputs, 1)];
    const targets = [floats(fixed, 0), floats(fixed, 1)] as const;
    const reduced = { reduction: reduction as "mean" | "none" };
    return R.symmetricKL(p, q, gradient === "full" ? reduced : { ...reduced, targets });
  },
  magnitude: (inputs) => R.sum(floats(inputs, 0)),
  cases: [
    { name: "detached", inputs: twoPasses(normal([3, 5, 7], 1), 11) },
    { name: "detached, of fours", inputs: twoPasses(normal([4, 12], 2, { std: 2 }), 12) },
    { name: "full", inputs: twoPasses(normal([3, 5, 7], 3), 13), attrs: { gradient: "full" } },
    { name: "full, of fours", inputs: twoPasses(normal([4, 12], 4), 14), attrs: { gradient: "full" } },
    { name: "each row", inputs: twoPasses(normal([3, 5, 7], 8), 17), attrs: { reduction: "none" } },
    {
      name: "each row, full, of fours",
      inputs: twoPasses(normal([4, 12], 9), 18),
      attrs: { reduction: "none", gradient: "full" },
    },
    {
      name: "full, logits of 1e4",
      inputs: [R.map(far, (v) => v / 1e2), R.map(far, (v) => v / 2e2)].map(rounded),
      attrs: { gradient: "full" },
      gradient: false,
    },
    { name: "two classes", inputs: twoPasses(normal([6, 2], 5), 15) },
    { name: "equal passes", inputs: [normal([3, 4], 6), normal([3, 4], 6)] },
    { name: "700 rows", inputs: twoPasses(normal([700, 3], 7), 16), gradient: false },
  ],
  // Twice a log-softmax, and for each class the difference of two logs.
  forward: (context) => absolute(2 * logError(context))(context),
  backward: (context) => absolute(8 * logError(context) * Math.max(1, largest(context.dy)))(context),
  refuses: [
    {
      shapes: [
        [3, 4],
        [3, 5],
      ],
      message: /\[3, 4\] and \[3, 5\] differ/,
    },
    {
      shapes: [
        [3, 0],
        [3, 0],
      ],
      message: /\[3, 0\] has no classes/,
    },
    {
      shapes: [
        [3, 4],
        [3, 4],
      ],
      attrs: { reduction: "sum" },
      message: /symmetricKl: reduction "sum", expected mean or none/,
    },
  ],
  variants: true,
  fused: true,
});

/** Rows of ops along a last dimension, look-ups and losses. */
export const rowWise: readonly Row[] = [softmax, logSoftmax, layerNorm, addLayerNorm, embedding, symmetricKl];
