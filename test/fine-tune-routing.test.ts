// Routes per batch, example and token in fine-tuning; two passes in one batch and one after the other.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DrawSource, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  consistentLoss,
  distanceOfPasses,
  type Granularity,
  type PeftMethod,
  type Router,
  recordedRouter,
  taskLoss,
  twoPassLoss,
  uniformRouter,
  warmUpWeight,
} from "../src/peft/index.ts";
import { type FineTuneOptions, fineTune, type StepReport } from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { bytesOf, scramble, tinyConfig, tinyInput, tinyLabels } from "./peft.table.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;
const GRANULARITIES: readonly Granularity[] = ["batch", "example", "token"];

function build(method: PeftMethod, dropout = 0.1) {
  const model = new RobertaForSequenceClassification(gpu, tinyConfig(dropout));
  initBertWeights(model, Stream.seed(11), 0.3);
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  return { model, set };
}

const dispose = (...all: { dispose(): void }[]): void => {
  for (const one of all) one.dispose();
};

const passes = suite("passes in one batch, and one after the other");

for (const routing of GRANULARITIES) {
  passes(
    `routes per ${routing}: logits and consistency are the same bits, gradients the same numbers`,
    async () => {
      const { model, set } = build(adamixAdapter({ bottleneck: 3, experts: 3, share: "none" }));
      scramble(set);
      const router = uniformRouter(Stream.seed(4));
      const clock = tensor(gpu, Uint32Array.of(4, 7));
      const draw: DrawSource = { stream: Stream.seed(4), clock, examples: 3 };
      const [groups, tokens] = [routing === "batch" ? 1 : 3, routing === "token" ? 7 : 1];
      const gradients = async (apart: boolean) => {
        for (const parameter of set.parameters()) parameter.grad = null;
        set.routes.draw(router, { step: 7, passes: 2, groups, tokens, apart });
        const routes = set.routes.last();
        const pass = (firstPass: number): Tensor => {
          set.routes.usePass(firstPass);
          return model.forward(tinyInput(), { draw: { ...draw, firstPass } });
        };
        const losses = tidy(() => {
          const two = apart
            ? consistentLoss([pass(0), pass(1)], {
                task: (z) => taskLoss(z, tinyLabels()),
                distance: (a, b) => distanceOfPasses(a, b, false),
              })
            : twoPassLoss(model.forward(tinyInput(7, 2), { draw }), tinyLabels());
          two.loss.backward();
          return two;
        });
        const all = new Map<string, Float32Array>();
        for (const [name, parameter] of set.namedParameters())
          all.set(name, await floats(parameter.grad as Tensor));
        return {
          routes,
          loss: await floats(losses.loss),
          consistency: await floats(losses.consistency),
          all,
        };
      };
      const together = await gradients(false);
      const apart = await gradients(true);
      assert.equal(apart.routes, together.routes, "routes");
      assertBitEqual(apart.loss, together.loss, "loss");
      assertBitEqual(apart.consistency, together.consistency, "consistency");
      assert.ok((together.consistency[0] ?? 0) > 1e-4, "the passes differ");
      for (const [name, gradient] of together.all) {
        const top = Math.max(...gradient.map(Math.abs));
        assertClose(apart.all.get(name) ?? [], gradient, { atol: 2e-6 * Math.max(top, 0.01), name });
      }
      dispose(set, model, clock);
    },
  );
}

passes.run();

const training = suite("routes in fine-tuning");

/** Sequences of four to seven tokens in two lengths of batch; the label is the first token's. */
const train = Array.from({ length: 24 }, (_, i) => ({
  ids: Int32Array.from({ length: 4 + ((i * 5) % 4) }, (_, t) =>
    t === 0 ? 2 + (i % 3) : 3 + ((7 * i + t) % 13),
  ),
  label: i % 3,
}));

/** The losses, routes and final experts of a fine-tuning of 8 steps. */
async function tuned(method: PeftMethod, options: Partial<FineTuneOptions> = {}) {
  const { model, set } = build(method);
  const reports: StepReport[] = [];
  const { optimiser, drawn } = await fineTune(gpu, model, set, {
    train,
    steps: 8,
    batchSize: 4,
    multiple: 1,
    lr: 0.02,
    seed: 3,
    ...options,
    onStep: (report) => reports.push(report),
  });
  const bytes = [...(await bytesOf(set.namedParameters())).values()].flatMap((values) => [...values]);
  const { steps } = (await optimiser.state()) as { steps: Uint32Array };
  dispose(optimiser, set, model);
  const losses = Float32Array.from(reports, ({ loss }) => loss);
  return { reports, losses, bytes: Float32Array.from(bytes), drawn, steps: [...steps] };
}

const lora = (): PeftMethod => adamixLora({ rank: 2, experts: 3 });

for (const routing of GRANULARITIES) {
  training(`routes per ${routing}: logged, counted, and drawn again from the log`, async () => {
    const { reports, losses, bytes, drawn } = await tuned(lora(), { routing });
    const tally = reports[0]?.drawn?.[0]?.[0] ?? [];
    const perStep = tally.reduce((sum, n) => sum + n, 0);
    assert.is(perStep, { batch: 2, example: 8, token: 8 * 7 }[routing], "draws of a layer's step");
    assert.equal(drawn?.[0]?.[1], [0], "a shared side is not drawn");
    for (const [l, sides] of (drawn ?? []).entries()) {
      const sums = [0, 1, 2].map((m) => reports.reduce((n, r) => n + (r.drawn?.[l]?.[0]?.[m] ?? 0), 0));
      assert.equal(sides[0], sums, `layer ${l}: the sum over steps`);
    }
    if (routing === "token") {
      assert.ok(reports.every(({ routes }) => routes === null));
      return;
    }
    const asked = (step: number): number[][][] => reports[step]?.routes ?? [];
    const router: Router = recordedRouter(asked, { layers: [0, 1], passes: 2 });
    const again = await tuned(lora(), { routing, router });
    assertBitEqual(again.losses, losses, "losses");
    assertBitEqual(again.bytes, bytes, "experts");
    assert.throws(
      () => router({ layer: 5, side: "up", experts: 3, step: 0, pass: 0, group: 0, token: 0 }),
      /router: no route is recorded for step 0, layer 5, up, pass 0, group 0/,
    );
  });

  training(`routes per ${routing}: from the third step of each length on nothing is created`, async () => {
    const settled = (): object => {
      const { created, bindGroups, kernels } = gpu.device.statistics();
      return { created, bindGroups, kernels };
    };
    const { model, set } = build(adamixAdapter({ bottleneck: 3, experts: 3 }));
    // Batches of two lengths, in the order of the seed.
    const lengths = new Set<number>();
    const mixed = [2, 7].flatMap((n) =>
      train.slice(0, 4).map(({ label }, i) => ({ ids: idsOf(n, i), label })),
    );
    let after: object = {};
    const { optimiser } = await fineTune(gpu, model, set, {
      train: mixed,
      steps: 30,
      batchSize: 2,
      multiple: 1,
      lr: 0.01,
      seed: 3,
      routing,
      onStep: ({ drawn }) => lengths.add((drawn?.[0]?.[0] ?? []).reduce((sum, n) => sum + n, 0)),
      beforeStep: async (step) => {
        if (step === 15) after = settled();
        if (step > 15) assert.equal(settled(), after, `before step ${step}`);
      },
    });
    assert.equal([...lengths].sort(byNumber), { batch: [2], example: [4], token: [8, 28] }[routing]);
    dispose(optimiser, set, model);
  });
}

const byNumber = (a: number, b: number): number => a - b;

function idsOf(length: number, i: number): Int32Array {
  return Int32Array.from({ length }, (_, t) => 3 + ((5 * i + t) % 13));
}

training("a run leaves nothing behind on the device", async () => {
  const options: Partial<FineTuneOptions>[] = [
    { routing: "token" },
    { routing: "example", passesInOneBatch: false, consistency: { weight: warmUpWeight(1, 3) } },
  ];
  for (const own of options) await tuned(lora(), own);
  const before = liveBytes(gpu);
  for (const own of options) await tuned(lora(), own);
  assert.is(liveBytes(gpu), before);
});

training("captured or not, the same bytes; another granularity is another run", async () => {
  const losses: Float32Array[] = [];
  for (const routing of GRANULARITIES) {
    const captured = await tuned(lora(), { routing });
    const plain = await tuned(lora(), { routing, capture: false });
    assertBitEqual(plain.losses, captured.losses, `losses, ${routing}`);
    assertBitEqual(plain.bytes, captured.bytes, `experts, ${routing}`);
    losses.push(captured.losses);
  }
  assert.is(new Set(losses.map((values) => values.join())).size, 3);
});

training("one pass after the other trains like one batch of both", async () => {
  for (const routing of ["batch", "example"] as const) {
    const together = await tuned(lora(), { routing });
    const apart = await tuned(lora(), { routing, passesInOneBatch: false });
    assert.is(apart.losses[0], together.losses[0], "the first loss: the same bits");
    assert.equal(
      apart.reports.map(({ routes }) => routes),
      together.reports.map(({ routes }) => routes),
    );
    assertClose(apart.losses, together.losses, { rtol: 1e-4, name: "losses" });
  }
});

training("undrawn experts: each rule of the optimiser gives another run", async () => {
  const rules = ["authors", "zeroGrad", "skip"] as const;
  const runs = [];
  for (const undrawn of rules) runs.push(await tuned(lora(), { optimiser: { undrawn } }));
  const [authors, zeroGrad, skip] = runs.map(({ steps }) => Math.min(...steps.filter((n) => n > 0)));
  assert.is(zeroGrad, 8, "a zero gradient is a step");
  assert.ok((skip ?? 8) < 8, "a step without a draw is none");
  assert.ok((authors ?? 0) >= (skip ?? 0));
  assert.is(new Set(runs.map(({ bytes }) => bytes.join())).size, 3);
});

training("λ by step: a captured step reads it from its slot", async () => {
  const weight = warmUpWeight(4, 4);
  assert.equal([0, 1, 2, 3, 4, 99].map(weight), [1, 2, 3, 4, 4, 4]);
  assert.is(warmUpWeight(2, 0)(0), 2);
  assert.throws(() => warmUpWeight(1, -1), /consistency: a warm-up of -1 steps/);
  const none = await tuned(lora(), { consistency: { weight: 0 }, lr: 0 });
  const grown = await tuned(lora(), { consistency: { weight }, lr: 0 });
  assertBitEqual(
    Float32Array.from(grown.reports, ({ consistency }) => consistency ?? Number.NaN),
    Float32Array.from(none.reports, ({ consistency }) => consistency ?? Number.NaN),
    "the term itself",
  );
  for (const [step, { loss, consistency }] of grown.reports.entries()) {
    const expected = (none.losses[step] ?? 0) + weight(step) * (consistency ?? 0);
    assertClose([loss], [expected], { rtol: 1e-6, name: `loss of step ${step}` });
  }
  const plain = await tuned(lora(), { consistency: { weight }, capture: false });
  const captured = await tuned(lora(), { consistency: { weight } });
  assertBitEqual(captured.bytes, plain.bytes, "experts");
});

training(
  "a regression has a consistency where that is asked for: the squared difference of two passes",
  async () => {
    const numbers = train.map(({ ids, label }) => ({ ids, label: label / 2 }));
    const consistencies: (number | null)[] = [];
    for (const regression of ["none", "mse"] as const) {
      const config = { ...tinyConfig(0.1), num_labels: 1 };
      const model = new RobertaForSequenceClassification(gpu, config);
      initBertWeights(model, Stream.seed(11), 0.3);
      model.setRequiresGrad(false);
      const set = new AdaptationSet(gpu, model, lora(), { stream: Stream.seed(1) });
      scramble(set);
      const { optimiser } = await fineTune(gpu, model, set, {
        train: numbers,
        steps: 1,
        batchSize: 4,
        lr: 0.01,
        seed: 3,
        consistency: { regression },
        onStep: ({ consistency }) => consistencies.push(consistency),
      });
      dispose(optimiser, set, model);
    }
    const [none, mse] = consistencies;
    assertClose([none ?? 1], [0], { atol: 1e-7 });
    assert.ok((mse ?? 0) > 1e-4, `${mse}`);
  },
);

training("a granularity that there is not is refused before anything runs", async () => {
  const routing = "layer" as Granularity;
  await tuned(lora(), { routing }).then(
    () => assert.unreachable(),
    (error) =>
      assert.match(error.message, 'fineTune: routing is "layer", expected one of batch, example, token'),
  );
});

training.run();
