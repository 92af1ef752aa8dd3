// Modes of inference of a mixture, and what several routes say of uncertainty.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { add, mul, Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights, LayerNorm, OutputSite } from "../src/nn/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  givenRouter,
  ModuleMean,
  prefix,
  softRouter,
  uniformRouter,
} from "../src/peft/index.ts";
import {
  allRoutes,
  expectedCalibrationError,
  type InferenceMode,
  infer,
  MergedView,
  predict,
  predictive,
} from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { scramble, tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const examples = Array.from({ length: 7 }, (_, i) => ({
  ids: Int32Array.from({ length: 3 + (i % 5) }, (_, t) => 2 + ((5 * i + t) % 14)),
}));

const modes = suite("inference modes");

const model = new RobertaForSequenceClassification(gpu, tinyConfig());
initBertWeights(model, Stream.seed(11), 0.3);
model.setRequiresGrad(false);
const set = scramble(
  new AdaptationSet(gpu, model, adamixAdapter({ bottleneck: 3, experts: 2, share: "none" }), {
    stream: Stream.seed(1),
  }),
);
const stream = Stream.seed(6);
const run = (mode: InferenceMode, options: object = {}) =>
  infer(gpu, model, set, examples, { mode, stream, ...options });
const row = (logits: Float32Array, i: number): Float32Array => logits.slice(3 * i, 3 * i + 3);

modes("merged is the merged set, fixed the first experts; the mixture is back afterwards", async () => {
  const view = new MergedView(model, set);
  const merged = await view.use(() => predict(gpu, model, examples));
  assertBitEqual((await run("merged")).logits, merged, "merged");
  view.dispose();
  set.routes.draw(() => 0, { step: 0, passes: 1 });
  const first = await predict(gpu, model, examples);
  assertBitEqual((await run("fixed")).logits, first, "fixed");
  assertBitEqual(await predict(gpu, model, examples), first, "the mixture is attached, its routes are drawn");
});

modes("random: each example has a route of its own, whatever batch it is in", async () => {
  const { logits, runs } = await run("random", { routes: 2 });
  assert.is(runs.length, 2);
  assert.not.equal([...(runs[0] ?? [])], [...(runs[1] ?? [])]);
  const mean = (runs[0] ?? []).map((value, i) => (value + (runs[1]?.[i] ?? 0)) / 2);
  assertClose(logits, mean, { atol: 1e-7 });
  const small = await run("random", { routes: 2, batchSize: 2 });
  assertClose(small.logits, logits, { atol: 1e-5, name: "in batches of two" });
  const router = uniformRouter(stream);
  for (const i of [0, 3, 6]) {
    set.routes.draw((request) => router({ ...request, group: i }), { step: 0, passes: 1, firstPass: 1 });
    const alone = await predict(gpu, model, [examples[i] as (typeof examples)[number]]);
    assertClose(row(runs[1] as Float32Array, i), alone, { atol: 1e-5, name: `example ${i} alone` });
  }
});

modes("random-token: routes of tokens, the same in other batches", async () => {
  const { logits } = await run("random-token");
  const small = await run("random-token", { batchSize: 2, multiple: 1 });
  assertClose(small.logits, logits, { atol: 1e-5, name: "in batches of two, padded less" });
  assert.not.equal([...logits], [...(await run("random")).logits]);
});

modes("ensemble: the mean over drawn routes, or over every route there is", async () => {
  const routes = allRoutes(set);
  assert.is(routes.length, 16);
  assert.is(new Set(routes.map((route) => JSON.stringify(route))).size, 16);
  const { logits, runs } = await run("ensemble", { routes: "all" });
  assert.is(runs.length, 16);
  for (const [i, route] of routes.entries()) {
    if (i % 5 !== 0) continue;
    set.routes.draw(givenRouter([route]), { step: 0, passes: 1 });
    assertBitEqual(
      await predict(gpu, model, examples),
      runs[i] as Float32Array,
      `route ${JSON.stringify(route)}`,
    );
  }
  const mean = logits.map((_, at) => runs.reduce((sum, one) => sum + (one[at] ?? 0), 0) / 16);
  assertClose(logits, mean, { atol: 1e-7 });
  assert.is((await run("ensemble")).runs.length, 4);
});

modes("module-mean: in each layer the mean over all pairs, worked out at one site", async () => {
  const site = new OutputSite({ name: "layer.0.output", layer: 0, role: "feedForward" }, 4);
  const method = adamixAdapter({ bottleneck: 3, experts: 2, share: "none" });
  const one = scramble(new AdaptationSet(gpu, { sites: () => [site] }, method, { stream: Stream.seed(1) }));
  const value = tensor(gpu, Stream.seed(3).normal(8), [2, 4]);
  const output = { value, residual: value, layerNorm: new LayerNorm(gpu, 4) };
  let sum: Tensor | null = null;
  for (const j of [0, 1])
    for (const k of [0, 1]) {
      one.routes.draw(givenRouter([[[j, k]]]), { step: 0, passes: 1 });
      const y = site.apply(output, {});
      sum = sum ? add(sum, y) : y;
    }
  one.routing = new ModuleMean(gpu, method.experts);
  const expected = await mul(sum as Tensor, 0.25).data();
  assertClose(await site.apply(output, {}).data(), expected, { atol: 1e-6 });
  one.dispose();
  const { logits } = await run("module-mean");
  assert.not.equal(
    [...logits],
    [...(await run("merged")).logits],
    "an adapter's module mean is not its merge",
  );
  assert.is(set.routing, set.routes);
});

modes(
  "a prefix of experts: merged, module mean and every route; gates have no rows to weigh there",
  async () => {
    const method = prefix({ tokens: 2, bottleneck: 3, experts: 2 });
    const own = scramble(new AdaptationSet(gpu, model, method, { name: "prefix", stream: Stream.seed(1) }));
    set.detach();
    const logitsOf = async (mode: InferenceMode): Promise<Float32Array> =>
      (await infer(gpu, model, own, examples, { mode, routes: "all", stream })).logits;
    const all = [await logitsOf("merged"), await logitsOf("module-mean")];
    assert.not.equal([...(all[0] ?? [])], [...(all[1] ?? [])], "a prefix is not linear in its experts");
    assert.is((await logitsOf("ensemble")).length, all[0]?.length);
    own.dispose();
    set.attach();
    assert.throws(
      () =>
        new AdaptationSet(gpu, model, method, {
          name: "gated",
          stream: Stream.seed(1),
          router: softRouter(),
        }),
      /router: "soft" weighs outputs of linear layers and sub-layers; .* is neither \(draw routes there\)/,
    );
  },
);

modes("of LoRA with B shared, module mean and merged are one", async () => {
  const shared = scramble(
    new AdaptationSet(gpu, model, adamixLora({ rank: 2, experts: 3 }), {
      name: "lora",
      stream: Stream.seed(1),
    }),
  );
  set.detach();
  const { logits: merged } = await infer(gpu, model, shared, examples, { mode: "merged", stream });
  const { logits: mean } = await infer(gpu, model, shared, examples, { mode: "module-mean", stream });
  assertClose(mean, merged, { atol: 5e-6 });
  shared.dispose();
  set.attach();
});

modes("wrong modes and numbers are refused", async () => {
  const expectRefusal = async (action: Promise<unknown>, message: string): Promise<void> =>
    action.then(
      () => assert.unreachable(),
      (error) => assert.match(error.message, message),
    );
  await expectRefusal(run("best" as InferenceMode), 'infer: mode "best", expected one of merged, random,');
  await expectRefusal(
    run("random", { routes: 0 }),
    "infer: 0 routes for mode random, expected a whole number",
  );
  await expectRefusal(run("random", { routes: "all" }), "infer: all routes for mode random");
  const many = new AdaptationSet(gpu, model, adamixAdapter({ bottleneck: 2, experts: 5, share: "none" }), {
    name: "many",
    stream: Stream.seed(1),
    attached: false,
  });
  assert.throws(
    () => allRoutes(many),
    /infer: 25 pairs of experts in 2 layers make 625 routes, more than 256; give a number of routes to draw/,
  );
  many.dispose();
});

modes.run();

const uncertainty = suite("uncertainty");

uncertainty("mean, variance, entropy and disagreement of two runs, by hand", () => {
  const logits = (p: number[]): number[] => p.map(Math.log);
  // Two examples of two classes: the runs disagree on the first, agree on the second.
  const { mean, variance, entropy, disagreement } = predictive(
    [logits([0.9, 0.1, 0.5, 0.5]), logits([0.1, 0.9, 0.5, 0.5])],
    2,
  );
  const tight = { atol: 1e-12 };
  assertClose(mean, [0.5, 0.5, 0.5, 0.5], tight);
  assertClose(variance, [0.16, 0.16, 0, 0], tight);
  assertClose(entropy, [Math.LN2, Math.LN2], tight);
  const own = -(0.9 * Math.log(0.9) + 0.1 * Math.log(0.1));
  assertClose(disagreement, [Math.LN2 - own, 0], tight);
});

uncertainty("calibration error by bins, by hand", () => {
  // Confidences 0.95, 0.85 | 0.55: hits 1, 0 | 1.
  const p = [0.95, 0.05, 0.15, 0.85, 0.55, 0.45];
  const two = expectedCalibrationError(p, [0, 0, 0], 2);
  assertClose([two], [Math.abs(2 - 0.95 - 0.85 - 0.55) / 3], { atol: 1e-12, name: "all in the upper bin" });
  const ten = expectedCalibrationError(p, [0, 0, 0], 10);
  assertClose([ten], [(0.05 + 0.85 + 0.45) / 3], { atol: 1e-12, name: "one in each bin" });
  assert.is(expectedCalibrationError([1, 0, 0, 1], [0, 1]), 0);
  assert.throws(() => expectedCalibrationError([1, 0], [0], 0), /0 bins, expected 1 or more/);
});

uncertainty.run();
