// What the experts of a set are like: cosines and merge distances by hand, and the score of every route.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights, Linear, LinearSite } from "../src/nn/index.ts";
import { AdaptationSet, adamixAdapter, adamixLora, diagnose, givenRouter } from "../src/peft/index.ts";
import { predict, routeScores, scoreLogits } from "../src/train/index.ts";
import { assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { scramble, tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const test = suite("diagnostics of experts");

test("cosines and distances of three experts, by hand; a shared side is left out", async () => {
  const site = new LinearSite({ name: "layer.4.query", layer: 4 }, new Linear(gpu, 2, 2));
  const method = adamixLora({ rank: 1, experts: 3, targets: ["query"] });
  const set = new AdaptationSet(gpu, { sites: () => [site] }, method, { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters())
    if (name.endsWith("lora_A.weight")) parameter.write(Float32Array.of(3, 0, 0, 3, 3, 3));
  const [only, ...others] = await diagnose(set);
  assert.is(others.length, 0);
  assert.equal([only?.name, only?.layer, only?.side], ["layer.4.query.lora.lora_A", 4, "down"]);
  const half = Math.SQRT1_2;
  assertClose((only?.cosine ?? []).flat(), [1, 0, half, 0, 1, half, half, half, 1], { atol: 1e-12 });
  assertClose([only?.meanCosine ?? 0], [(2 * half) / 3], { atol: 1e-12 });
  // The mean is (2, 2): distances √5, √5 and √2 of a norm of √8.
  assertClose([only?.mergeDistance ?? 0], [(2 * Math.sqrt(5) + Math.SQRT2) / 3 / Math.sqrt(8)], {
    atol: 1e-12,
  });
  set.dispose();
});

test("experts that start alike have a cosine of 1 and nothing to merge", async () => {
  const site = new LinearSite({ name: "layer.0.query", layer: 0 }, new Linear(gpu, 4, 4));
  const method = adamixLora({ rank: 2, experts: 3, init: "authors", targets: ["query"] });
  const set = new AdaptationSet(gpu, { sites: () => [site] }, method, { stream: Stream.seed(1) });
  const [only] = await diagnose(set);
  assertClose([only?.meanCosine ?? 0], [1], { atol: 1e-12 });
  assertClose([only?.mergeDistance ?? 1], [0], { atol: 1e-12 });
  set.dispose();
});

test("the score of every route is that of the model on it", async () => {
  const model = new RobertaForSequenceClassification(gpu, tinyConfig());
  initBertWeights(model, Stream.seed(11), 0.3);
  const set = scramble(
    new AdaptationSet(gpu, model, adamixAdapter({ bottleneck: 3, experts: 2 }), { stream: Stream.seed(1) }),
  );
  const examples = Array.from({ length: 5 }, (_, i) => ({
    ids: Int32Array.from({ length: 4 }, (_, t) => 2 + ((5 * i + t) % 14)),
    label: i % 3,
  }));
  const scores = await routeScores(gpu, model, set, examples);
  assert.equal(
    scores.map(({ route }) => route.flat().join("")),
    ["0000", "1000", "0010", "1010"],
    "two layers of two experts below one",
  );
  for (const { route, scores: own } of scores) {
    set.routes.draw(givenRouter([route]), { step: 0, passes: 1 });
    const labels = examples.map(({ label }) => label);
    assert.equal(own, scoreLogits(await predict(gpu, model, examples), labels));
  }
  assert.is(new Set(scores.map(({ scores: own }) => own.nll)).size, 4);
  set.dispose();
  model.dispose();
});

test.run();
