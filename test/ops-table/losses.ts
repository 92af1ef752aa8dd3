// Rows of losses over labels: weights of classes, ignored rows, smoothing.
import type { Gpu } from "../../src/array/index.ts";
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { absolute, type Bound, type Context, largest, terms } from "./bounds.ts";
import {
  type Attributes,
  type Case,
  floats,
  given,
  integers,
  normal,
  type Refusal,
  type Row,
  row,
  uniform,
} from "./row.ts";
import { far, farOdd, idsOf, logError } from "./row-wise.ts";

const kept = new WeakMap<Gpu, Map<string, ad.Tensor>>();

/** Attributes with class weights: for the op, for the public function, and as numbers for the reference. */
function weighted(attrs: object, weights: R.RefTensor): (gpu: Gpu) => object {
  return (gpu) => {
    const own = kept.get(gpu) ?? new Map<string, ad.Tensor>();
    kept.set(gpu, own);
    const key = weights.data.join();
    const weight = own.get(key) ?? ad.tensor(gpu, Float32Array.from(weights.data));
    own.set(key, weight);
    return { ...attrs, classWeights: weight.array, weight, weights: [...weights.data] };
  };
}

/** Logits of a shape with labels, a fifth of which are ignored. */
function labelled(shape: readonly number[], seed: number): Pick<Case, "inputs"> {
  const labels = idsOf(shape.slice(0, -1), shape.at(-1) ?? 1, seed);
  const data = labels.data.map((label, i) => (i % 5 === 4 ? -100 : label));
  return { inputs: [normal(shape, seed, { std: 3 }), R.indices(labels.shape, data)] };
}

/** Of 0.5..2, and one class that does not count. */
function classWeights(classes: number): R.RefTensor {
  const weights = uniform([classes], 60, 0.5, 2);
  weights.data[classes - 1] = 0;
  return weights;
}

/** The largest weight: what a row's loss and gradient are multiplied with. */
function largestWeight({ weights = [1] }: Attributes): number {
  return Math.max(...(weights as number[]));
}

/** The loss's own error; a mean or a sum of n rows has theirs. */
function lossError(context: Context): number {
  const rows = integers(context.inputs, 1).data.length;
  return logError(context) * largestWeight(context.attrs) * (context.attrs.reduction === "sum" ? rows : 1);
}

const crossEntropyBackward: Bound = (context) =>
  absolute(4 * logError(context) * largestWeight(context.attrs) * Math.max(1, largest(context.dy)))(context);

function lossCases(): Case[] {
  const labels = R.indices([2, 3], [0, 6, -100, 3, 1, -100]);
  const cases: Case[] = [];
  for (const reduction of ["mean", "sum", "none"]) {
    for (const labelSmoothing of [0, 0.1]) {
      const attrs = { reduction, labelSmoothing };
      const name = `${reduction}${labelSmoothing ? ", smoothed" : ""}`;
      cases.push({ name, inputs: [normal([2, 3, 7], 1, { std: 3 }), labels], attrs });
      cases.push({ name: `${name}, of fours`, inputs: [normal([2, 3, 12], 2, { std: 3 }), labels], attrs });
      for (const classes of [7, 12]) {
        cases.push({
          name: `${name}, weights of ${classes} classes`,
          inputs: [normal([2, 3, classes], 3, { std: 3 }), labels],
          attrs: weighted(attrs, classWeights(classes)),
        });
      }
    }
  }
  cases.push({
    name: "another ignored label",
    inputs: [normal([3, 5], 3), R.indices([3], [0, 4, 2])],
    attrs: { ignoreIndex: 0 },
  });
  cases.push({ name: "logits of 1e4", inputs: [R.ref([2, 4], far.data), R.indices([2], [1, 3])] });
  cases.push({ name: "logits of 1e4, odd", inputs: [farOdd, R.indices([2], [1, 2])] });
  cases.push({
    name: "classes that cannot be",
    inputs: [R.ref([2, 4], [0, 1, -Infinity, 2, 1, -Infinity, 0, 0]), R.indices([2], [1, 3])],
    gradient: false,
  });
  cases.push({
    name: "no row that counts",
    inputs: [normal([2, 5], 8), R.indices([2], [-100, -100])],
    gradient: false,
  });
  cases.push({ name: "no rows", inputs: [normal([0, 5], 9), R.indices([0], [])], gradient: false });
  cases.push({ name: "one class", inputs: [normal([3, 1], 4), R.indices([3], [0, 0, 0])] });
  const many = R.indices(
    [700],
    Array.from({ length: 700 }, (_, i) => i % 3),
  );
  cases.push({ name: "700 rows", inputs: [normal([700, 3], 5), many], gradient: false });
  cases.push({
    name: "5001 classes",
    inputs: [normal([2, 5001], 6), R.indices([2], [5000, 17])],
    gradient: false,
  });
  cases.push({
    name: "50,260 classes",
    inputs: [normal([3, 50_260], 7), R.indices([3], [50_259, 17, 40_000])],
    gradient: false,
  });
  return cases;
}

/** A description of an array, which the shape rule reads no values of. */
const described = (shape: readonly number[], dtype = "f32") => ({ shape, dtype });

const labelRefusals: readonly Refusal[] = [
  { shapes: [[4, 7], [3]], message: /labels \[3\] do not fit logits \[4, 7\]/ },
  {
    shapes: [
      [4, 7],
      [4, 7],
    ],
    message: /labels \[4, 7\] do not fit logits \[4, 7\]/,
  },
  { shapes: [[4, 0], [4]], message: /\[4, 0\] has no classes/ },
  {
    shapes: [[4, 7], [4]],
    attrs: { classWeights: described([6]) },
    message: /class weights f32 \[6\], expected f32 \[7\]/,
  },
  {
    shapes: [[4, 7], [4]],
    attrs: { classWeights: described([7], "i32") },
    message: /class weights i32 \[7\], expected f32 \[7\]/,
  },
  {
    shapes: [[4, 7], [4]],
    attrs: { reduction: "batchmean" },
    message: /reduction "batchmean", expected mean, sum or none/,
  },
];

const crossEntropy = row(ops.crossEntropy, {
  reference: (inputs, attrs) => R.crossEntropy(floats(inputs, 0), integers(inputs, 1), attrs),
  cases: lossCases(),
  call: ([logits, labels], { classWeights: _array, weights: _floats, ...options }) =>
    ad.crossEntropy(given(logits), given(labels), options),
  make: labelled,
  forward: (context) => absolute(lossError(context))(context),
  backward: crossEntropyBackward,
  refuses: [
    ...labelRefusals,
    {
      shapes: [[4, 7], [4]],
      attrs: { labelSmoothing: 1.5 },
      message: /labelSmoothing is 1.5, expected 0..1/,
    },
  ],
  variants: true,
});

/** Logarithms of probabilities, in f32. */
function logProbabilities(shape: readonly number[], seed: number): R.RefTensor {
  return R.map(R.logSoftmax(normal(shape, seed)), Math.fround);
}

function nllCases(): Case[] {
  const labels = R.indices([2, 3], [0, 6, -100, 3, 1, -100]);
  const cases: Case[] = [];
  for (const reduction of ["mean", "sum", "none"]) {
    const attrs = { reduction };
    cases.push({ name: reduction, inputs: [logProbabilities([2, 3, 7], 1), labels], attrs });
    for (const classes of [7, 12]) {
      cases.push({
        name: `${reduction}, weights of ${classes} classes`,
        inputs: [logProbabilities([2, 3, classes], 2), labels],
        attrs: weighted(attrs, classWeights(classes)),
      });
    }
  }
  cases.push({
    name: "another ignored label",
    inputs: [normal([3, 5], 3), R.indices([3], [0, 4, 2])],
    attrs: { ignoreIndex: 0 },
  });
  cases.push({ name: "no rows", inputs: [normal([0, 5], 4), R.indices([0], [])], gradient: false });
  return cases;
}

const nllLoss = row(ops.nllLoss, {
  reference: (inputs, attrs) => R.nllLoss(floats(inputs, 0), integers(inputs, 1), attrs),
  magnitude: (inputs, attrs) => R.map(R.nllLoss(floats(inputs, 0), integers(inputs, 1), attrs), Math.abs),
  cases: nllCases(),
  call: ([logp, labels], { classWeights: _array, weights: _floats, ...options }) =>
    ad.nllLoss(given(logp), given(labels), options),
  make: labelled,
  // Products with weights, their sum, and a division.
  forward: terms(6, 2),
  // The weight, dy and the division by the sum of weights: no sums but that.
  backward: terms(6, 2),
  refuses: labelRefusals,
  variants: true,
});

export const losses: readonly Row[] = [crossEntropy, nllLoss];
