// The float64 references of losses, norms, indexing and SGD against values that follow from their definitions by hand.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assertClose } from "./compare.ts";
import * as R from "./reference/index.ts";

const close = (actual: R.RefTensor, expected: readonly number[], atol = 1e-14): void =>
  assertClose(actual.data, expected, { atol, rtol: 1e-14 });
const logs = (values: readonly number[], shape: readonly number[]): R.RefTensor =>
  R.ref(shape, values.map(Math.log));

const losses = suite("reference losses, by hand");

/** Two rows of probabilities, whose logarithms are logits of themselves. */
const two = logs([0.5, 0.25, 0.25, 0.1, 0.6, 0.3], [2, 3]);
const labels = R.indices([2], [0, 2]);
const weights = [1, 2, 3];
const [first, second] = [Math.log(2), 3 * Math.log(10 / 3)];

losses("class weights multiply a row's loss, and a mean is divided by those of the labels", () => {
  close(R.crossEntropy(two, labels, { weights, reduction: "none" }), [first, second]);
  close(R.crossEntropy(two, labels, { weights, reduction: "sum" }), [first + second]);
  close(R.crossEntropy(two, labels, { weights }), [(first + second) / 4]);
  const ignored = R.indices([2], [-100, 2]);
  close(R.crossEntropy(two, ignored, { weights }), [second / 3]);
  close(R.nllLoss(two, labels, { weights }), [(first + second) / 4]);
});

losses("smoothing weighs the other classes by their own weights", () => {
  const e = 0.3;
  const spread = [
    Math.log(2) + 2 * Math.log(4) + 3 * Math.log(4),
    Math.log(10) + 2 * Math.log(5 / 3) + 3 * Math.log(10 / 3),
  ] as const;
  const rows = [(1 - e) * first + (e / 3) * spread[0], (1 - e) * second + (e / 3) * spread[1]] as const;
  close(R.crossEntropy(two, labels, { weights, labelSmoothing: e, reduction: "none" }), rows);
  close(R.crossEntropy(two, labels, { weights, labelSmoothing: e }), [(rows[0] + rows[1]) / 4]);
});

losses("divergence of two distributions, one with a probability of 0", () => {
  const x = logs([0.25, 0.25, 0.5], [1, 3]);
  const t = R.ref([1, 3], [0.5, 0.5, 0]);
  close(R.klDivergence(x, t, { reduction: "none" }), [Math.log(2) / 2, Math.log(2) / 2, 0]);
  close(R.klDivergence(x, t), [Math.log(2) / 3]);
  close(R.klDivergence(x, t, { reduction: "batchmean" }), [Math.log(2)]);
  close(R.klDivergence(x, logs([0.5, 0.25, 0.25], [1, 3]), { logTarget: true, reduction: "sum" }), [
    0.25 * Math.log(2),
  ]);
});

losses("binary cross-entropy of logits", () => {
  const x = R.ref([4], [0, 0, 1000, -1000]);
  const t = R.ref([4], [1, 0, 0, 1]);
  close(R.bceWithLogits(x, t, { reduction: "none" }), [Math.log(2), Math.log(2), 1000, 1000]);
  const posWeight = R.ref([], 3);
  close(R.bceWithLogits(x, t, { posWeight, reduction: "sum" }), [4 * Math.log(2) + 4000]);
  close(R.bceWithLogits(x, t, { weight: R.ref([4], [0, 1, 0, 0]) }), [Math.log(2) / 4]);
});

losses("squares near 0, lines beyond", () => {
  const x = R.ref([4], [0.5, -3, 1, 0]);
  const zero = R.ref([4], 0);
  close(R.mse(x, zero, { reduction: "none" }), [0.25, 9, 1, 0]);
  close(R.l1(x, zero), [4.5 / 4]);
  close(R.huber(x, zero, { delta: 2, reduction: "none" }), [0.125, 4, 0.5, 0]);
  close(R.smoothL1(x, zero, { beta: 2, reduction: "none" }), [0.0625, 2, 0.25, 0]);
});

losses("cosines of 45 degrees, of opposites and of nothing", () => {
  const a = R.ref([3, 2], [1, 0, 1, 2, 0, 0]);
  const b = R.ref([3, 2], [3, 3, -2, -4, 1, 1]);
  close(R.cosineSimilarity(a, b), [Math.SQRT1_2, -1, 0]);
  // Below eps a vector counts as one of length eps.
  close(R.cosineSimilarity(R.ref([1, 1], 0.5), R.ref([1, 1], 4), { eps: 2 }), [0.25]);
  close(R.cosineSimilarity(a, R.ref([2], [0, 1]), { dim: -1 }), [0, 2 / Math.sqrt(5), 0]);
});

losses.run();

const layers = suite("reference norms, turns and indexing, by hand");

layers("the root mean square of 3 and 4", () => {
  const rms = Math.sqrt(12.5 + 0.5);
  close(R.rmsNorm(R.ref([2], [3, 4]), R.ref([2], [1, 2]), { eps: 0.5 }), [3 / rms, 8 / rms]);
});

layers("a quarter turn makes (1, 0) into (0, 1) and (0, 1) into (-1, 0)", () => {
  const cos = R.ref([2, 2], [1, 1, 0, 0]);
  const sin = R.ref([2, 2], [0, 0, 1, 1]);
  const x = R.ref([1, 2, 1, 4], [1, 2, 3, 4, 1, 2, 3, 4]);
  close(R.rotaryEmbedding(x, null, { cos, sin }), [1, 2, 3, 4, -3, -4, 1, 2]);
  close(R.rotaryEmbedding(x, null, { cos, sin, interleaved: true }), [1, 2, 3, 4, -2, 1, -4, 3]);
  const first = R.ref([2, 1], [1, 0]);
  const turn = { cos: first, sin: R.ref([2, 1], [0, 1]), offset: 1 };
  const one = R.ref([1, 1, 4], [1, 2, 3, 4]);
  close(R.rotaryEmbedding(one, null, { ...turn, heads: 1 }), [-2, 1, 3, 4]);
  close(R.rotaryEmbedding(one, R.indices([1, 1], [0]), { ...turn, heads: 2 }), [1, 2, 3, 4]);
});

layers("gather reads where scatterAdd writes", () => {
  const x = R.ref([2, 3], [1, 2, 3, 4, 5, 6]);
  const ids = R.indices([2, 2], [2, 2, 0, 1]);
  close(R.gather(x, ids, { dim: 1 }), [3, 3, 4, 5]);
  close(R.scatterAdd(x, ids, R.ref([2, 2], [10, 20, 30, 40]), { dim: 1 }), [1, 2, 33, 34, 45, 6]);
  close(R.gather(x, R.indices([1, 3], [1, 0, 1]), { dim: 0 }), [4, 2, 6]);
  close(R.indexSelect(x, R.indices([2], [2, 0]), { dim: -1 }), [3, 1, 6, 4]);
});

layers("pad, flip and tile", () => {
  const x = R.ref([2, 2], [1, 2, 3, 4]);
  assert.equal(
    R.pad(
      x,
      [
        [0, 1],
        [1, 0],
      ],
      9,
    ),
    R.ref([3, 3], [9, 1, 2, 9, 3, 4, 9, 9, 9]),
  );
  assert.equal(R.flip(x, [0]), R.ref([2, 2], [3, 4, 1, 2]));
  assert.equal(R.flip(x, [0, -1]), R.ref([2, 2], [4, 3, 2, 1]));
  assert.equal(R.tile(x, [2]), R.ref([2, 4], [1, 2, 1, 2, 3, 4, 3, 4]));
  assert.equal(R.tile(R.ref([2], [1, 2]), [2, 1]), R.ref([2, 2], [1, 2, 1, 2]));
  assert.equal(R.tile(x, [0, 1]), R.ref([0, 2]));
});

layers.run();

const steps = suite("reference SGD, by hand");

steps("momentum takes the first gradient whole, then adds up", () => {
  const start = { param: R.ref([1], 1), buffer: null };
  const g = R.ref([1], 1);
  const options = { lr: 0.1, momentum: 0.9 };
  const after = R.sgdStep(start, g, options);
  close(after.param, [0.9]);
  close(R.sgdStep(after, g, options).param, [0.9 - 0.19]);
  close(R.sgdStep(start, g, { ...options, nesterov: true }).param, [1 - 0.19]);
  const damped = R.sgdStep(start, g, { ...options, dampening: 0.5 });
  close(damped.param, [0.9]);
  close(R.sgdStep(damped, g, { ...options, dampening: 0.5 }).param, [0.9 - 0.14]);
  close(R.sgdStep(start, g, { lr: 0.1, weightDecay: 0.5 }).param, [0.85]);
});

steps.run();
