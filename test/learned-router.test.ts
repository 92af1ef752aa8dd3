// Routers with parameters on the interface of stochastic routing: soft mixtures, top-k, and one of one's own.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { mul, Stream, softmax, type Tensor, tensor } from "../src/autograd/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights, LayerNorm, Linear, LinearSite, OutputSite, type Site } from "../src/nn/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  fixedRouter,
  type LearnedRouter,
  lora,
  routerFromConfig,
  softRouter,
  topKRouter,
} from "../src/peft/index.ts";
import { fineTune, MergedView, predict, type StepReport } from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { bytesOf, scramble, tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;
const x = tensor(gpu, Stream.seed(3).normal(2 * 3 * 4), [2, 3, 4]);
const ROWS = 6;

/** A set at one site, its gate given. */
function routed(router: LearnedRouter | null, gate: Float32Array<ArrayBuffer> | null = null) {
  const site = new OutputSite({ name: "layer.0.output", layer: 0, role: "feedForward" }, 4);
  const method = adamixAdapter({ bottleneck: 2, experts: 3, share: "none" });
  const set = new AdaptationSet(gpu, { sites: () => [site] }, method, { stream: Stream.seed(1), router });
  scramble(set);
  for (const [name, parameter] of set.namedParameters())
    if (gate && name.endsWith(".router.weight")) parameter.write(gate);
  const output = { value: x, residual: x, layerNorm: new LayerNorm(gpu, 4) };
  return { set, run: () => site.apply(output, {}) };
}

/** The outputs of each expert alone, [M][rows · 4]. */
async function alone(): Promise<Float32Array[]> {
  const { set, run } = routed(null);
  const outputs: Float32Array[] = [];
  for (const m of [0, 1, 2]) {
    set.routes.draw(fixedRouter(m), { step: 0, passes: 1 });
    outputs.push(await floats(run()));
  }
  set.dispose();
  return outputs;
}

const gate = Stream.seed(9).normal(12, 0, 2);
/** softmax(x gateᵀ), row by row. */
async function probabilities(): Promise<number[][]> {
  const values = await floats(x);
  return Array.from({ length: ROWS }, (_, row) => {
    const logits = [0, 1, 2].map((m) =>
      [0, 1, 2, 3].reduce((sum, c) => sum + (values[4 * row + c] ?? 0) * (gate[4 * m + c] ?? 0), 0),
    );
    const powers = logits.map(Math.exp);
    return powers.map((power) => power / powers.reduce((a, b) => a + b));
  });
}

const routing = suite("learned routers");

routing("soft: Σ softmax(gate) · output of the expert, for each token", async () => {
  const { set, run } = routed(softRouter(), gate);
  const [outputs, p] = [await alone(), await probabilities()];
  const expected = (outputs[0] as Float32Array).map((_, i) =>
    outputs.reduce((sum, output, m) => sum + (p[Math.floor(i / 4)]?.[m] ?? 0) * (output[i] ?? 0), 0),
  );
  assertClose(await floats(run()), expected, { atol: 3e-6 });
  assert.is(set.learned?.takeLoss(), null);
  set.dispose();
});

routing(
  "top-k: the likeliest experts, their weights renormalised; of one expert it is that expert",
  async () => {
    const [outputs, p] = [await alone(), await probabilities()];
    for (const k of [1, 2]) {
      const { set, run } = routed(topKRouter({ k, balance: 0 }), gate);
      const expected = (outputs[0] as Float32Array).map((_, i) => {
        const own = p[Math.floor(i / 4)] ?? [];
        const best = [0, 1, 2].sort((a, b) => (own[b] ?? 0) - (own[a] ?? 0)).slice(0, k);
        const total = best.reduce((sum, m) => sum + (own[m] ?? 0), 0);
        return best.reduce((sum, m) => sum + ((own[m] ?? 0) / total) * (outputs[m]?.[i] ?? 0), 0);
      });
      assertClose(await floats(run()), expected, { atol: 3e-6, name: `k ${k}` });
      assert.is(set.learned?.takeLoss(), null);
      set.dispose();
    }
  },
);

routing("the balancing loss: M Σ f P, and `balance` where all experts are used alike", async () => {
  const { set, run } = routed(topKRouter({ k: 2, balance: 0.5 }), gate);
  run();
  const p = await probabilities();
  const shares = [0, 0, 0];
  for (const own of p)
    for (const m of [0, 1, 2].sort((a, b) => (own[b] ?? 0) - (own[a] ?? 0)).slice(0, 2))
      shares[m] = (shares[m] ?? 0) + 1 / 12;
  const expected = shares.reduce(
    (sum, f, m) => sum + 0.5 * 3 * f * (p.reduce((total, own) => total + (own[m] ?? 0), 0) / ROWS),
    0,
  );
  const loss = set.learned?.takeLoss() as Tensor;
  assertClose([await loss.item()], [expected], { atol: 1e-6 });
  assert.is(set.learned?.takeLoss(), null, "it is taken once");
  const even = routed(topKRouter({ k: 3, balance: 0.5 }), new Float32Array(12));
  even.run();
  const evenLoss = even.set.learned?.takeLoss() as Tensor;
  assertClose([await evenLoss.item()], [0.5], { atol: 1e-6 });
  for (const one of [set, even.set]) one.dispose();
});

/** The loss Σ y · dy for a fixed dy, and with the router's own. */
function lossOf({ set, run }: ReturnType<typeof routed>): Tensor {
  const dy = tensor(gpu, Stream.seed(4).normal(x.size), x.shape);
  const own = mul(run(), dy).sum();
  const balance = set.learned?.takeLoss();
  return balance ? own.add(balance) : own;
}

for (const router of [softRouter(), topKRouter({ k: 2, balance: 0.3 })]) {
  routing(`${router.name}: gradients of gate and experts agree with central differences`, async () => {
    const case_ = routed(router, gate);
    lossOf(case_).backward();
    const step = 2 ** -6;
    for (const [name, parameter] of case_.set.namedParameters()) {
      const gradient = await floats(parameter.grad as Tensor);
      const values = await floats(parameter);
      for (const at of [0, values.length - 1]) {
        const shifted = async (by: number): Promise<number> => {
          parameter.write(
            values.map((value, i) => (i === at ? value + by : value)) as Float32Array<ArrayBuffer>,
          );
          return lossOf(case_).item();
        };
        const slope = ((await shifted(step)) - (await shifted(-step))) / (2 * step);
        parameter.write(values as Float32Array<ArrayBuffer>);
        assertClose([gradient[at] ?? 0], [slope], { atol: 5e-3, rtol: 1e-2, name: `${name}[${at}]` });
      }
    }
    case_.set.dispose();
  });
}

routing("one gate for each site; on LoRA's query and value too", async () => {
  const base = new Linear(gpu, 4, 4);
  const site = (part: string): Site => new LinearSite({ name: `layer.0.${part}`, layer: 0 }, base);
  const sites = [site("query"), site("value")];
  const set = new AdaptationSet(gpu, { sites: () => sites }, adamixLora({ rank: 2, experts: 3 }), {
    stream: Stream.seed(1),
    router: softRouter(),
  });
  const gates = [...set.namedParameters()].filter(([name]) => name.endsWith(".router.weight"));
  assert.equal(
    gates.map(([name, { shape }]) => [name, [...shape]]),
    [
      ["layer.0.query.lora.router.weight", [3, 4]],
      ["layer.0.value.lora.router.weight", [3, 4]],
    ],
  );
  const y = base.forward(x);
  const [query] = sites as [LinearSite, LinearSite];
  assertClose(await floats(query.apply(y, x, {})), await floats(y), {
    atol: 1e-6,
    name: "B is 0: the identity",
  });
  set.dispose();
});

routing("a router of one's own is an object", async () => {
  /** The last expert, as much as its probability says; nothing of the others. */
  const timid: LearnedRouter = {
    name: "timid",
    config: { router: "timid" },
    choose: (logits, expert) => ({ choices: [{ route: expert(2), weight: softmax(logits).slice(2, 2, 3) }] }),
  };
  const { set, run } = routed(timid, gate);
  const [outputs, p] = [await alone(), await probabilities()];
  const expected = (outputs[2] as Float32Array).map((value, i) => value * (p[Math.floor(i / 4)]?.[2] ?? 0));
  assertClose(await floats(run()), expected, { atol: 3e-6 });
  set.dispose();
});

routing("configs come back; what makes no sense is refused", () => {
  for (const router of [softRouter(), topKRouter({ k: 3, balance: 0.2 })])
    assert.equal(routerFromConfig(router.config).config, router.config);
  assert.throws(() => routerFromConfig({ router: "best" }), /router "best" is not one of soft, top-k/);
  assert.throws(() => topKRouter({ k: 0 }), /router: k is 0, expected 1 or more/);
  assert.throws(() => topKRouter({ balance: -1 }), /router: balance is -1, expected 0 or more/);
  const { set, run } = routed(topKRouter({ k: 4 }));
  assert.throws(run, /router: k is 4; there are 3 experts/);
  set.dispose();
  const site = new LinearSite({ name: "layer.0.query", layer: 0 }, new Linear(gpu, 4, 4));
  assert.throws(
    () =>
      new AdaptationSet(gpu, { sites: () => [site] }, lora({ rank: 1, targets: ["query"] }), {
        stream: Stream.seed(1),
        router: softRouter(),
      }),
    /router: "soft" has one expert of lora to choose from; give experts: 2 or more/,
  );
});

routing.run();

const training = suite("fine-tuning with learned routers");

const train = Array.from({ length: 12 }, (_, i) => ({
  ids: Int32Array.from({ length: 4 + (i % 2) * 3 }, (_, t) =>
    t === 0 ? 2 + (i % 3) : 3 + ((7 * i + t) % 13),
  ),
  label: i % 3,
}));

for (const router of [softRouter(), topKRouter({ k: 2, balance: 0.1 })]) {
  training(
    `${router.name}: learns in one pass a step, captured or not; nothing to merge; nothing left behind`,
    async () => {
      const before = liveBytes(gpu);
      const runs: { bytes: Float32Array; reports: StepReport[] }[] = [];
      for (const capture of [true, false]) {
        const model = new RobertaForSequenceClassification(gpu, tinyConfig(0.1));
        initBertWeights(model, Stream.seed(11), 0.3);
        model.setRequiresGrad(false);
        model.classifier.setRequiresGrad(true);
        const method = adamixAdapter({ bottleneck: 3, experts: 3 });
        const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1), router });
        assert.is(set.isMixture, false);
        const reports: StepReport[] = [];
        const options = { train, steps: 24, batchSize: 4, multiple: 1, lr: 0.02, seed: 3, capture };
        let after: object = {};
        const { optimiser, drawn } = await fineTune(gpu, model, set, {
          ...options,
          beforeStep: async (step) => {
            const { created, bindGroups, kernels } = gpu.device.statistics();
            if (step === 14) after = { created, bindGroups, kernels };
            if (step > 14) assert.equal({ created, bindGroups, kernels }, after, `before step ${step}`);
          },
          onStep: (report) => reports.push(report),
        });
        assert.is(drawn, null);
        assert.ok(reports.every(({ consistency, routes }) => consistency === null && routes === null));
        const bytes = [...(await bytesOf(set.namedParameters())).values()].flatMap((values) => [...values]);
        runs.push({ bytes: Float32Array.from(bytes), reports });
        const logits = await predict(gpu, model, train);
        const view = new MergedView(model, set);
        assert.is(view.set, set, "it is evaluated as it is");
        assertBitEqual(await view.use(() => predict(gpu, model, train)), logits);
        for (const one of [optimiser, view, set, model]) one.dispose();
      }
      const [captured, plain] = runs as [(typeof runs)[number], (typeof runs)[number]];
      assertBitEqual(captured.bytes, plain.bytes, "parameters");
      const losses = captured.reports.map(({ loss }) => loss);
      const mean = (values: number[]): number => values.reduce((a, b) => a + b) / values.length;
      assert.ok(mean(losses.slice(-6)) < mean(losses.slice(0, 6)) - 0.05, `${losses}`);
      assert.is(liveBytes(gpu), before, "live bytes");
    },
  );
}

training.run();
