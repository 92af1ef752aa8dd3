// Losses that are composed of ops. Rows of ops-table/composed.ts.
import * as ad from "../../src/autograd/index.ts";
import * as R from "../reference/index.ts";
import { absolute, type Bound, type Context, largest, plus, terms, ulps } from "./bounds.ts";
import {
  type Attributes,
  type Case,
  type ComposedRow,
  floats,
  given,
  normal,
  type ShapeClass,
  uniform,
  type Value,
} from "./row.ts";

/** The mean of nothing is 0 / 0. */
const ofNothing: readonly ShapeClass[] = ["empty", "empty rows"];

/** How many losses meet in one number. */
function count({ inputs, attrs }: Context): number {
  return attrs.reduction === "none" ? 1 : floats(inputs, 0).data.length;
}

function reduced(losses: R.RefTensor, { reduction = "mean" }: Attributes): R.RefTensor {
  if (reduction === "none") return losses;
  return reduction === "mean" ? R.mean(losses) : R.sum(losses);
}

/** |x| + |t|: the difference at its largest. */
const spread = (inputs: readonly Value[]) => R.add(floats(inputs, 0), floats(inputs, 1));

/** Cases of a loss of two tensors, with every reduction. */
function pairs(attrs: object = {}): Case[] {
  return ["mean", "sum", "none"].map((reduction, i) => {
    const shape = i === 1 ? [4, 12] : [3, 5, 7];
    return {
      name: `${reduction} of [${shape.join(", ")}]`,
      inputs: [normal(shape, 2 * i + 1), normal(shape, 2 * i + 2)],
      attrs: { ...attrs, reduction },
    };
  });
}

const refuses = [
  { shapes: [[3, 4], [5]], message: /\[3, 4\] and \[5\] differ in shape/ },
  {
    shapes: [
      [3, 4],
      [3, 4],
    ],
    attrs: { reduction: "batchmean" },
    message: /reduction "batchmean", expected mean/,
  },
];

const mse: ComposedRow = {
  name: "mse",
  call: ([x, t], attrs) => ad.mse(given(x), given(t), attrs),
  reference: (inputs, attrs) => R.mse(floats(inputs, 0), floats(inputs, 1), attrs),
  magnitude: (inputs, attrs) => reduced(R.square(spread(inputs)), attrs),
  cases: pairs(),
  without: ofNothing,
  forward: terms((context) => count(context) + 4),
  // 2 (x - t): the error of the difference is that of its terms.
  backward: terms(4, 4),
  refuses,
  variants: true,
};

const l1: ComposedRow = {
  name: "l1",
  call: ([x, t], attrs) => ad.l1(given(x), given(t), attrs),
  reference: (inputs, attrs) => R.l1(floats(inputs, 0), floats(inputs, 1), attrs),
  magnitude: (inputs, attrs) => reduced(spread(inputs), attrs),
  cases: pairs(),
  without: ofNothing,
  forward: terms((context) => count(context) + 2),
  backward: ulps(4),
  refuses,
  variants: true,
};

/** s min(s, δ), s = |x| + |t|: above every term of a Huber loss. */
function huberTerms(inputs: readonly Value[], delta: number): R.RefTensor {
  return R.map(spread(inputs), (s) => s * Math.min(s, delta));
}

const huber: ComposedRow = {
  name: "huber",
  call: ([x, t], attrs) => ad.huber(given(x), given(t), attrs),
  reference: (inputs, attrs) => R.huber(floats(inputs, 0), floats(inputs, 1), attrs),
  magnitude: (inputs, attrs) => reduced(huberTerms(inputs, Number(attrs.delta ?? 1)), attrs),
  cases: [...pairs(), ...pairs({ delta: 0.25 })],
  without: ofNothing,
  forward: terms((context) => count(context) + 6),
  backward: terms(6, 4),
  refuses: [
    ...refuses,
    { shapes: [[3], [3]], attrs: { delta: 0 }, message: /huber: delta is 0, expected more than 0/ },
  ],
  variants: true,
};

const smoothL1: ComposedRow = {
  name: "smoothL1",
  call: ([x, t], attrs) => ad.smoothL1(given(x), given(t), attrs),
  reference: (inputs, attrs) => R.smoothL1(floats(inputs, 0), floats(inputs, 1), attrs),
  magnitude: (inputs, attrs) => {
    const beta = Number(attrs.beta ?? 1);
    if (beta === 0) return reduced(spread(inputs), attrs);
    return reduced(
      R.map(huberTerms(inputs, beta), (v) => v / beta),
      attrs,
    );
  },
  cases: [...pairs(), ...pairs({ beta: 0.25 }), ...pairs({ beta: 0 })],
  without: ofNothing,
  forward: terms((context) => count(context) + 7),
  backward: terms(7, 4),
  refuses: [
    ...refuses,
    { shapes: [[3], [3]], attrs: { beta: -1 }, message: /smoothL1: beta is -1, expected 0 or more/ },
  ],
  variants: true,
};

function logProbabilities(shape: readonly number[], seed: number): R.RefTensor {
  return R.map(R.logSoftmax(normal(shape, seed)), Math.fround);
}

function probabilities(shape: readonly number[], seed: number): R.RefTensor {
  return R.map(R.softmax(normal(shape, seed)), Math.fround);
}

const klDivergence: ComposedRow = {
  name: "klDivergence",
  call: ([x, t], attrs) => ad.klDivergence(given(x), given(t), attrs),
  reference: (inputs, attrs) => R.klDivergence(floats(inputs, 0), floats(inputs, 1), attrs),
  // Logarithms near 1 have an error of 2^-21, as if they were 2 and more.
  magnitude: (inputs, attrs) => {
    const [x, t] = [floats(inputs, 0), floats(inputs, 1)];
    const f = attrs.logTarget
      ? (v: number, u: number): number => Math.exp(u) * (u + v + 2) * (1 + u)
      : (v: number, u: number): number => u * (Math.abs(Math.log(u || 1)) + v + 2);
    const all = R.zip(x, t, f);
    if (attrs.reduction !== "batchmean") return reduced(all, attrs);
    return R.map(R.sum(all), (sum) => sum / (x.shape[0] ?? 1));
  },
  cases: ["mean", "sum", "none", "batchmean"].flatMap((reduction, i): Case[] => [
    {
      name: `${reduction} of probabilities`,
      inputs: [logProbabilities([3, 5, 7], i), probabilities([3, 5, 7], i + 10)],
      attrs: { reduction },
    },
    {
      name: `${reduction} of logarithms`,
      inputs: [logProbabilities([4, 12], i + 20), logProbabilities([4, 12], i + 30)],
      attrs: { reduction, logTarget: true },
    },
    {
      name: `${reduction}, probabilities of 0`,
      inputs: [logProbabilities([2, 3], i + 40), R.ref([2, 3], [0, 1, 0, 0.5, 0.25, 0.25])],
      attrs: { reduction },
      gradient: false,
    },
  ]),
  without: ofNothing,
  forward: terms((context) => count(context) + 4, 2),
  backward: terms(4, 8),
  refuses: [{ shapes: [[3, 4], [5]], message: /\[3, 4\] and \[5\] differ in shape/ }],
  variants: true,
};

/** A softplus is good to 2e-6; each loss has two, times what they are multiplied with. */
const bceBound: Bound = (context) => {
  const t = Math.max(1, largest(floats(context.inputs, 1)));
  const factors = [2, 3].map((i) => Math.max(1, largest(context.inputs[i])));
  const error = 2e-6 * 2 * t * factors.reduce((a, b) => a * b, 1);
  const sum = context.attrs.reduction === "sum" ? floats(context.inputs, 0).data.length : 1;
  return plus(absolute(error * sum), terms(count(context) + 6))(context);
};

const bceWithLogits: ComposedRow = {
  name: "bceWithLogits",
  call: ([x, t, weight, posWeight], attrs) =>
    ad.bceWithLogits(given(x), given(t), { ...attrs, weight, posWeight }),
  reference: (inputs, attrs) => {
    const factor = (i: number): R.RefTensor | undefined => (inputs[i] ? floats(inputs, i) : undefined);
    const options = { ...attrs, weight: factor(2), posWeight: factor(3) };
    return R.bceWithLogits(floats(inputs, 0), floats(inputs, 1), options);
  },
  magnitude: (inputs, attrs) => {
    const [x, t] = [floats(inputs, 0), floats(inputs, 1)];
    const factor = (i: number): R.RefTensor => (inputs[i] ? floats(inputs, i) : R.ref([], 1));
    const positive = R.mul(
      R.map(t, (v) => v),
      factor(3),
    );
    const all = R.mul(
      R.add(
        positive,
        R.map(t, (v) => 1 + v),
      ),
      R.map(x, (v) => v + 1),
    );
    return reduced(R.mul(all, factor(2)), attrs);
  },
  cases: [
    ...["mean", "sum", "none"].map(
      (reduction, i): Case => ({
        name: reduction,
        inputs: [normal([3, 5, 7], i, { std: 3 }), uniform([3, 5, 7], i + 10, 0, 1), null, null],
        attrs: { reduction },
      }),
    ),
    {
      name: "weights of columns, and of positives",
      inputs: [
        normal([3, 4], 5),
        uniform([3, 4], 6, 0, 1),
        uniform([4], 7, 0.5, 2),
        uniform([3, 1], 8, 0.5, 2),
      ],
    },
    {
      name: "far from 0",
      inputs: [R.ref([4], [1e4, -1e4, 40, -40]), R.ref([4], [1, 0, 0, 1]), null, null],
      attrs: { reduction: "none" },
    },
  ],
  // Targets are shares.
  without: [...ofNothing, "1e30"],
  forward: bceBound,
  backward: (context) => {
    const bound = bceBound({ ...context, attrs: { ...context.attrs, reduction: "none" } })(0);
    const error = 4 * bound * Math.max(1, largest(floats(context.inputs, 0))) * largest(context.dy);
    const { reduction = "mean" } = context.attrs;
    return absolute(reduction === "mean" ? error / floats(context.inputs, 0).data.length : error)(context);
  },
  refuses: [
    { shapes: [[3, 4], [5], null, null], message: /\[3, 4\] and \[5\] differ in shape/ },
    { shapes: [[3, 4], [3, 4], [2, 3, 4], null], message: /weights \[2, 3, 4\] do not stretch to \[3, 4\]/ },
    { shapes: [[3, 4], [3, 4], null, [5]], message: /\[3, 4\] and \[5\] do not broadcast/ },
  ],
  variants: true,
};

/** Sums of C products, two roots and two products of what is at most 1. */
function cosineError({ inputs, attrs }: Context): number {
  const axis = Number(attrs.axis ?? 1);
  return (24 + 3 * Math.sqrt(R.add(floats(inputs, 0), floats(inputs, 1)).shape.at(axis) ?? 1)) * 2 ** -24;
}

/** The smallest length of the vectors: slopes are as steep as 2 / it. */
function shortest({ inputs, attrs }: Context): number {
  let length = Number.POSITIVE_INFINITY;
  const { shape } = R.add(floats(inputs, 0), floats(inputs, 1));
  for (const i of [0, 1]) {
    const squares = R.sum(R.square(R.expand(floats(inputs, i), shape)), { dims: [Number(attrs.axis ?? 1)] });
    for (const v of squares.data) length = Math.min(length, Math.sqrt(v));
  }
  return length;
}

const cosineSimilarity: ComposedRow = {
  name: "cosineSimilarity",
  call: ([a, b], { axis, eps }) =>
    ad.cosineSimilarity(given(a), given(b), axis as number | undefined, eps as number | undefined),
  reference: (inputs, { axis = 1, eps = 1e-8 }) =>
    R.cosineSimilarity(floats(inputs, 0), floats(inputs, 1), { dim: Number(axis), eps: Number(eps) }),
  cases: [
    { name: "[3, 5, 7] along -1", inputs: [normal([3, 5, 7], 1), normal([3, 5, 7], 2)], attrs: { axis: -1 } },
    { name: "[4, 12] along 1", inputs: [normal([4, 12], 3), normal([4, 12], 4)] },
    { name: "[5, 8] along 0", inputs: [normal([5, 8], 5), normal([5, 8], 6)], attrs: { axis: 0 } },
    {
      name: "equal, opposite and no vectors",
      inputs: [R.ref([3, 2], [1, 2, 3, 4, 0, 0]), R.ref([3, 2], [1, 2, -3, -4, 1, 1])],
      gradient: false,
    },
    {
      name: "shorter than eps",
      inputs: [normal([2, 3], 7, { std: 0.1 }), normal([2, 3], 8)],
      attrs: { eps: 10 },
    },
  ],
  // Nothing has no direction; 1e30 squared is beyond f32.
  without: ["empty rows", "1e30"],
  forward: (context) => absolute(cosineError(context))(context),
  backward: (context) =>
    absolute((8 * cosineError(context) * largest(context.dy)) / Math.min(1, shortest(context)))(context),
  refuses: [
    { shapes: [[3, 4], [5]], message: /\[3, 4\] and \[5\] do not broadcast/ },
    { shapes: [[3], [3]], message: /dimension 1 is not one of a rank-1 array/ },
    {
      shapes: [
        [3, 4],
        [3, 4],
      ],
      attrs: { eps: 0 },
      message: /eps is 0, expected more than 0/,
    },
  ],
  variants: true,
};

export const composedLosses: readonly ComposedRow[] = [
  mse,
  l1,
  huber,
  smoothL1,
  klDivergence,
  bceWithLogits,
  cosineSimilarity,
];
