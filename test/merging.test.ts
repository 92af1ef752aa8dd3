// Merging experts: by weights, by learned weights, as a greedy soup; what cannot be merged is refused.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  adapter,
  LearnedWeights,
  lora,
  type MergeWeights,
  type PeftMethod,
  prefix,
  softRouter,
  soupWeights,
} from "../src/peft/index.ts";
import {
  fineTune,
  greedySoup,
  infer,
  learnMerge,
  MergedView,
  predict,
  scoreLogits,
} from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { bytesOf, scramble, tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const examples = Array.from({ length: 12 }, (_, i) => ({
  ids: Int32Array.from({ length: 4 + (i % 4) }, (_, t) => (t === 0 ? 2 + (i % 3) : 3 + ((7 * i + t) % 13))),
  label: i % 3,
}));
const labels = examples.map(({ label }) => label);

function build(method: PeftMethod) {
  const model = new RobertaForSequenceClassification(gpu, tinyConfig());
  initBertWeights(model, Stream.seed(11), 0.3);
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  return { model, set: scramble(set) };
}

const dispose = (...all: { dispose(): void }[]): void => {
  for (const one of all) one.dispose();
};

const WEIGHTS: MergeWeights = [
  { layer: 0, down: [0.5, 0.2, 0.3], up: [0.1, 0.1, 0.8] },
  { layer: 1, down: [0, 1, 0], up: [0.4, 0.4, 0.2] },
];
const methods: readonly PeftMethod[] = [
  adamixAdapter({ bottleneck: 3, experts: 3, share: "none" }),
  adamixLora({ rank: 2, experts: 3, share: "none" }),
  prefix({ tokens: 2, bottleneck: 3, experts: 3, share: "none" }),
];

const merging = suite("merging with weights");

for (const method of methods) {
  merging(`${method.name}: each side of each layer is Σ weight · expert`, async () => {
    const { model, set } = build(method);
    set.detach();
    const merged = set.mergeExperts(model, Stream.seed(2), { weights: WEIGHTS, name: "own" });
    assert.is(merged.name, "own");
    const sources = new Map([...set.banks()].map((entry) => [entry.name, entry]));
    assert.is(sources.size, method.name === "lora" ? 8 : 4);
    for (const { name, bank, side, site } of merged.banks()) {
      const source = sources.get(name);
      const own = WEIGHTS.find(({ layer }) => layer === site.layer)?.[side] ?? [];
      const experts = (await source?.bank.weight.data()) as Float32Array;
      const size = experts.length / 3;
      const expected = Float32Array.from({ length: size }, (_, i) =>
        own.reduce((sum, weight, m) => sum + weight * (experts[m * size + i] ?? 0), 0),
      );
      assertClose(await bank.weight.data(), expected, { atol: 2e-7, name });
    }
    dispose(merged, set, model);
  });

  merging(`${method.name}: uniform weights are the mean, one expert's weight is that expert`, async () => {
    const { model, set } = build(method);
    const { layers } = set.routes;
    set.detach();
    const mean = set.mergeExperts(model, Stream.seed(2));
    const even = soupWeights(layers, method.experts, [0, 1, 2]);
    const uniform = set.mergeExperts(model, Stream.seed(2), { weights: even });
    const means = await bytesOf(mean.namedParameters());
    for (const [name, bytes] of await bytesOf(uniform.namedParameters()))
      assertClose(bytes, means.get(name) ?? [], { atol: 1e-7, name });
    const second = set.mergeExperts(model, Stream.seed(2), {
      weights: soupWeights(layers, method.experts, [1]),
    });
    second.attach();
    const alone = await predict(gpu, model, examples);
    second.detach();
    set.attach();
    set.routes.draw(({ experts }) => Math.min(1, experts - 1), { step: 0, passes: 1 });
    assertBitEqual(await predict(gpu, model, examples), alone, "logits through the second expert");
    dispose(mean, uniform, second, set, model);
  });

  merging(`${method.name}: while weights are learned, rows go through what will be merged`, async () => {
    const { model, set } = build(method);
    const weights = new LearnedWeights(gpu, set.routes.layers, method.experts);
    for (const [i, parameter] of weights.parameters().entries())
      parameter.write(Stream.seed(8).fold(i).normal(3, 0, 1));
    set.routing = weights;
    const along = await predict(gpu, model, examples);
    set.detach();
    const merged = set.mergeExperts(model, Stream.seed(2), { weights: await weights.read() });
    merged.attach();
    assertClose(along, await predict(gpu, model, examples), { atol: 2e-6, name: "logits" });
    dispose(merged, set, weights, model);
  });
}

merging("weights that are none are refused, with what is expected", () => {
  const { model, set } = build(methods[0] as PeftMethod);
  set.detach();
  const refused = (weights: MergeWeights, message: RegExp): void =>
    void assert.throws(() => set.mergeExperts(model, Stream.seed(2), { weights }), message);
  const before = liveBytes(gpu);
  refused(
    [{ layer: 0, down: [0.5, 0.5, 0.5], up: [1, 0, 0] }],
    /merge: weights of layer 0, down: 3 that sum to 1\.50000; expected 3 that sum to 1 \(one for each expert\)/,
  );
  refused(
    [{ layer: 0, down: [0.5, 0.5], up: [1, 0, 0] }],
    /layer 0, down: 2 that sum to 1\.00000; expected 3/,
  );
  refused(WEIGHTS.slice(0, 1), /weights of layer 1, down: none; expected 3/);
  assert.is(liveBytes(gpu), before, "nothing is left behind");
  dispose(set, model);
});

merging("a set with a learned router cannot be merged, nor one for another model", () => {
  const { model, set } = build(lora({ rank: 2 }));
  const routed = new AdaptationSet(gpu, model, methods[1] as PeftMethod, {
    name: "routed",
    stream: Stream.seed(1),
    router: softRouter(),
  });
  assert.throws(
    () => routed.mergeExperts(model, Stream.seed(2)),
    /merge: the "soft" router of set "routed" weighs experts for every token, which no mean of them does; keep the mixture, or train with drawn routes/,
  );
  const fewer = new AdaptationSet(gpu, model, lora({ rank: 2, targets: ["query"] }), {
    name: "fewer",
    stream: Stream.seed(1),
  });
  assert.throws(
    () => fewer.setToMeanOf(routed),
    /merge: set "routed" is at 4 sites, "fewer" at 2; merge it for the same model/,
  );
  const other = new AdaptationSet(
    gpu,
    model,
    adapter({ bottleneck: 2, targets: ["query", "value"].map(outputOf) }),
    {
      name: "other",
      stream: Stream.seed(1),
    },
  );
  assert.throws(
    () => other.setToMeanOf(routed),
    /merge: .*attention\.self\.query has no down to merge; it is another method's/,
  );
  dispose(other, fewer, routed, set, model);
});

/** Four sub-layer outputs, as many as there are queries and values. */
function outputOf(part: string): string {
  return part === "query" ? "attention.output" : "layer.*.output";
}

merging.run();

const recipes = suite("merges that are searched for");

/** A mixture in which one expert of each layer is of use and the others are far off. */
async function trained() {
  const { model, set } = build(adamixLora({ rank: 2, experts: 3 }));
  const { optimiser } = await fineTune(gpu, model, set, {
    train: examples,
    steps: 30,
    batchSize: 6,
    lr: 0.03,
    seed: 3,
    router: () => 0,
  });
  optimiser.dispose();
  return { model, set };
}

recipes("learned weights lower the loss of the merged model, and change nothing else", async () => {
  const { model, set } = await trained();
  const trainable = model.parameters().filter(({ requiresGrad }) => requiresGrad).length;
  const before = await bytesOf([...model.namedParameters(), ...set.namedParameters()]);
  const view = new MergedView(model, set);
  const nll = (): Promise<number> =>
    view.use(async () => scoreLogits(await predict(gpu, model, examples), labels).nll);
  const uniform = await nll();
  const options = { train: examples, batchSize: 6, seed: 3, steps: 40, lr: 0.2 };
  view.weights = await learnMerge(gpu, model, set, options);
  const learned = await nll();
  assert.ok(learned < uniform - 0.01, `nll ${uniform} -> ${learned}`);
  for (const { down, up } of view.weights) {
    assertClose([down.reduce((a, b) => a + b)], [1], { atol: 1e-6 });
    assert.equal(up, [1], "a shared side has one weight");
    assert.ok((down[0] ?? 0) > 1 / 3, `the trained expert counts more: ${down}`);
  }
  assert.equal(await learnMerge(gpu, model, set, options), view.weights, "the same seed, the same weights");
  for (const [name, bytes] of await bytesOf([...model.namedParameters(), ...set.namedParameters()]))
    assertBitEqual(bytes, before.get(name) ?? new Float32Array(), name);
  assert.is(model.parameters().filter(({ requiresGrad }) => requiresGrad).length, trainable);
  assert.is(set.routing, set.routes);
  view.dispose();
  dispose(set, model);
});

recipes("a greedy soup begins with the best expert and takes in what does not hurt", async () => {
  const { model, set } = await trained();
  const view = new MergedView(model, set);
  const nll = async (): Promise<number> => -scoreLogits(await predict(gpu, model, examples), labels).nll;
  const uniform = await view.use(nll);
  const soup = await greedySoup(view, nll);
  assert.is(soup.alone.length, 3);
  assert.is(soup.members[0], 0, "the trained one");
  assert.ok(soup.score >= Math.max(...soup.alone) && soup.score >= uniform, `${soup.score}, ${soup.alone}`);
  assert.is(await view.use(nll), soup.score, "the view goes on with the soup");
  view.dispose();
  dispose(set, model);
});

recipes("a soup by hand: scores decide who joins", async () => {
  const { model, set } = build(adamixLora({ rank: 2, experts: 4 }));
  const view = new MergedView(model, set);
  const seen: string[] = [];
  // Alone: 1, 3, 2, 0. With 1: 2 does not hurt, 0 and 3 do.
  const scores: Readonly<Record<string, number>> = {
    0: 0.1,
    1: 0.9,
    2: 0.5,
    3: 0.7,
    "1,3": 0.8,
    "1,2": 0.9,
    "1,2,0": 0.3,
  };
  const score = async (): Promise<number> => {
    const down = view.weights?.[0]?.down ?? [];
    const members = [...down.keys()].filter((m) => (down[m] ?? 0) > 0);
    const key = Object.keys(scores).find(
      (name) => name.split(",").map(Number).sort().join() === members.join(),
    );
    seen.push(key ?? "?");
    return scores[key ?? ""] ?? Number.NaN;
  };
  const soup = await greedySoup(view, score);
  assert.equal(seen, ["0", "1", "2", "3", "1,3", "1,2", "1,2,0"]);
  assert.equal(soup.members, [1, 2]);
  assert.equal(soup.weights[0], { layer: 0, down: [0, 0.5, 0.5, 0], up: [1] });
  assert.is(soup.score, 0.9);
  view.dispose();
  dispose(set, model);
});

recipes("what is no mixture is refused", async () => {
  const { model, set } = build(lora({ rank: 2 }));
  const message = "cannot be merged: lora has one expert on each side";
  const expectRefusal = async (action: () => Promise<unknown>): Promise<void> =>
    action().then(
      () => assert.unreachable(),
      (error) => assert.match(error.message, message),
    );
  await expectRefusal(() => learnMerge(gpu, model, set, { train: examples, batchSize: 2, seed: 0 }));
  const view = new MergedView(model, set);
  await expectRefusal(() => greedySoup(view, async () => 0));
  await infer(gpu, model, set, examples, { mode: "fixed", stream: Stream.seed(0) }).then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, "infer: mode fixed is for mixtures of drawn experts; use merged"),
  );
  view.dispose();
  dispose(set, model);
});

recipes.run();
