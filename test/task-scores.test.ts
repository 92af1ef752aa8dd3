// Scores of tasks. Correlations from scipy 1.17.1; R_K from Gorodkin's formula over one-hot columns, in numpy.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  decidingScore,
  f1Score,
  matthews,
  pearson,
  scoreLogits,
  scoreTask,
  spearman,
} from "../src/train/index.ts";

const scores = suite("scores of tasks");
const near = (actual: number, expected: number, name: string): void =>
  assert.ok(Math.abs(actual - expected) < 1e-12, `${name}: ${actual}, expected ${expected}`);

const x = [1.5, -2, 3.25, 3.25, 0, 7.5, -2, 4];
const y = [2, 0.5, 3, 1, 1, 9, -1, 1];

scores("Pearson and Spearman, with equal numbers", () => {
  near(pearson(x, y), 0.8223130793694794, "pearson");
  near(spearman(x, y), 0.7654904374034319, "spearman");
  near(
    spearman(
      x.map((value) => Math.exp(value)),
      y,
    ),
    0.7654904374034319,
    "of ranks alone",
  );
  assert.is(pearson([2, 2, 2], [1, 2, 3]), 0, "what does not vary agrees with nothing");
  assert.is(spearman([], []), 0);
  assert.throws(() => pearson([1], [1, 2]), /pearson: 1 numbers and 2/);
});

scores("Matthews of two classes and of three, F1 of class 1", () => {
  const [p, t] = [
    [0, 1, 1, 0, 1, 1, 0, 0, 1],
    [0, 1, 0, 0, 1, 0, 1, 0, 1],
  ];
  near(matthews(p, t), 0.35, "matthews");
  near(pearson(p, t), 0.35, "which is Pearson's r of 0 and 1");
  near(matthews([0, 1, 2, 2, 1, 0, 2, 1, 0], [0, 1, 1, 2, 2, 0, 2, 1, 1]), 0.509524665365068, "of three");
  assert.is(matthews([1, 1, 1], [0, 1, 1]), 0, "one class for all");
  near(f1Score(p, t), 2 / 3, "f1");
  assert.is(f1Score([0, 0], [0, 0]), 0);
});

scores("classes: the task's metrics first, then accuracy and nll; the first decides", () => {
  const logits = Float32Array.of(2, 0, 0, 1, -1, 1, 3, 1, 0, 0.5);
  const labels = [0, 1, 0, 1, 1];
  const { accuracy, nll } = scoreLogits(logits, labels);
  const cola = { metrics: ["matthews"], regression: false } as const;
  const of = scoreTask(cola, [logits], labels);
  assert.equal(Object.keys(of), ["matthews", "accuracy", "nll"]);
  assert.equal([of.accuracy, of.nll], [accuracy, nll]);
  near(of.matthews ?? 0, matthews([0, 1, 1, 0, 1], labels), "matthews");
  assert.is(decidingScore(cola, of), of.matthews);
  const mrpc = scoreTask({ metrics: ["accuracy", "f1"], regression: false }, [logits], labels);
  assert.equal(Object.keys(mrpc), ["accuracy", "f1", "nll"]);
  assert.is(decidingScore({ metrics: ["accuracy", "f1"], regression: false }, mrpc), accuracy);
});

scores(
  "numbers: Pearson, Spearman and mse of the mean of the runs; the mean of both correlations decides",
  () => {
    const stsb = { metrics: ["pearson", "spearman"], regression: true } as const;
    const runs = [0.5, -0.5].map((shift) => Float32Array.from(x, (value) => value + shift));
    const of = scoreTask(stsb, runs, y);
    assert.equal(Object.keys(of), ["pearson", "spearman", "mse"]);
    near(of.pearson ?? 0, pearson(x, y), "pearson");
    near(of.mse ?? 0, x.reduce((sum, value, i) => sum + (value - (y[i] ?? 0)) ** 2, 0) / x.length, "mse");
    near(decidingScore(stsb, of), (pearson(x, y) + spearman(x, y)) / 2, "decides");
  },
);

scores.run();
