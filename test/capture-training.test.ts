// Training loops that capture their steps: the same bytes as without, and nothing new once they have settled down.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import type { Encoded } from "../src/data/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { AdaptationSet, adamixAdapter, adamixLora, type PeftMethod } from "../src/peft/index.ts";
import {
  CapturedSteps,
  type FineTuneOptions,
  fineTune,
  MergedView,
  type PretrainReport,
  predict,
  pretrainMaskedLm,
  type StepReport,
} from "../src/train/index.ts";
import { capturedBytes, counts } from "./capture-network.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { bytesOf, LONGEST, tinyConfig } from "./peft.table.ts";

const gpu = await openTestGpu();
const training = suite("capture, training");

/** Sequences of 3 up to 7 tokens: with lengths in multiples of 3, batches of 3, 6 and 9 or so. */
const examples = (n: number, longest = LONGEST): Encoded[] =>
  Array.from({ length: n }, (_, i) => ({
    ids: Int32Array.from({ length: 3 + (i % (longest - 2)) }, (_, t) => 2 + ((7 * i + 3 * t) % 15)),
    label: i % 3,
  }));

interface Trained {
  readonly reports: Omit<StepReport, "examplesPerSecond" | "remainingMs">[];
  readonly bytes: Map<string, Float32Array<ArrayBuffer>>;
  readonly best: { readonly step: number; readonly score: number } | null;
}

type Options = Partial<FineTuneOptions> & {
  readonly evaluateEvery?: number;
  readonly sample?: (step: number) => void;
};

/** Fine-tunes the tiny model, with dropout, and gives all that there is to compare. */
async function tuned(method: PeftMethod | null, options: Options): Promise<Trained> {
  const model = new RobertaForSequenceClassification(gpu, tinyConfig(0.1));
  initBertWeights(model, Stream.seed(11), 0.3);
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
  const set = method && new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  const merged = new MergedView(model, set);
  const train = examples(20);
  const score = async (): Promise<number> => {
    const logits = await merged.use(() => predict(gpu, model, train.slice(0, 7), { batchSize: 3 }));
    return logits.reduce((a, b) => a + b);
  };
  const reports: Trained["reports"] = [];
  const { evaluateEvery, sample, ...rest } = options;
  const { optimiser, best } = await fineTune(gpu, model, set, {
    train,
    batchSize: 2,
    steps: 20,
    lr: 0.02,
    seed: 4,
    multiple: 2,
    ...(evaluateEvery ? { evaluate: { everySteps: evaluateEvery, score } } : {}),
    onStep({ examplesPerSecond: _rate, remainingMs: _left, ...report }) {
      reports.push(report);
      sample?.(report.step);
    },
    ...rest,
  });
  const bytes = await bytesOf([...model.namedParameters(), ...(set?.namedParameters() ?? [])]);
  for (const [name, values] of Object.entries(await optimiser.state()))
    bytes.set(name, Float32Array.from(values));
  merged.dispose();
  optimiser.dispose();
  set?.dispose();
  model.dispose();
  return { reports, bytes, best };
}

async function sameWithout(method: PeftMethod | null, options: Options): Promise<Trained> {
  const [captured, plain] = [
    await tuned(method, options),
    await tuned(method, { ...options, capture: false, sample: () => {} }),
  ];
  assert.equal(captured.reports, plain.reports);
  assert.equal(captured.best, plain.best);
  for (const [name, values] of plain.bytes)
    assertBitEqual(captured.bytes.get(name) ?? new Float32Array(), values, name);
  return captured;
}

training(
  "100 AdaMix steps with dropout and routes: losses and weights bit for bit, nothing new after all settled",
  async () => {
    const after: Record<string, number>[] = [];
    const { reports } = await sameWithout(adamixAdapter({ bottleneck: 3, experts: 3 }), {
      steps: 100,
      sample: () => after.push(counts()),
    });
    assert.is(reports.length, 100);
    const losses = reports.map(({ loss }) => loss);
    assert.is(new Set(losses).size, 100, "every step has a loss of its own");
    assert.ok(new Set(reports.map(({ routes }) => JSON.stringify(routes))).size > 10);
    assert.ok(reports.every(({ consistency }) => (consistency ?? -1) >= 0));
    // Twenty examples in batches of two: every length has come three times after 40 steps.
    for (const [i, late] of after.slice(40).entries()) assert.equal(late, after[40], `step ${41 + i}`);
    assert.ok((after[40]?.capturedBytes ?? 0) > 0);
  },
);

training("with evaluations of the merged experts between steps, and the best state put back", async () => {
  const { best } = await sameWithout(adamixLora({ rank: 2, experts: 2, dropout: 0.2 }), {
    steps: 24,
    evaluateEvery: 5,
  });
  assert.ok(best);
});

training("one pass without an adaptation, unclipped, and the other options of a step", async () => {
  const { reports } = await sameWithout(null, { clipNorm: null, optimiser: { weightDecay: 0.1 } });
  assert.ok(reports.every(({ consistency, routes }) => consistency === null && routes === null));
  await sameWithout(adamixAdapter({ bottleneck: 2, experts: 2 }), {
    consistency: { weight: 0.5, gradient: "full", taskPasses: "both" },
    clipNorm: 0.1,
    optimiser: { undrawn: "skip", convention: "huggingface" },
  });
});

training(
  "a loop leaves no more behind than without capture, and no captured memory when it fails",
  async () => {
    const method = adamixAdapter({ bottleneck: 3, experts: 3 });
    const left = async (capture: boolean): Promise<number> => {
      const before = liveBytes(gpu);
      await tuned(method, { capture });
      assert.is(capturedBytes(), 0);
      return liveBytes(gpu) - before;
    };
    await left(true);
    assert.is(await left(true), await left(false));
    const message = await tuned(null, { lr: 1e38, clipNorm: null, warmupSteps: 0 }).then(
      () => "",
      (error: Error) => error.message,
    );
    assert.match(message, /fineTune: the loss of step \d+ is NaN; lower the learning rate/);
    assert.is(capturedBytes(), 0, "after a failure");
  },
);

training("pretraining gives the bytes that it gives without capture", async () => {
  const run = async (capture: boolean) => {
    const reports: Omit<PretrainReport, "elapsedMs" | "remainingMs">[] = [];
    const model = await pretrainMaskedLm(gpu, {
      config: { ...tinyConfig(), max_position_embeddings: 18 },
      lines: examples(30, 15),
      masking: { maskId: 16, vocabSize: 17, specialIds: [0, 1] },
      steps: 30,
      batchSize: 4,
      lr: 0.01,
      warmupSteps: 5,
      weightDecay: 0.01,
      seed: 6,
      reportEvery: 4,
      capture,
      onReport: ({ elapsedMs: _time, remainingMs: _rest, ...report }) => {
        reports.push(report);
      },
    });
    const bytes = await bytesOf(model.namedParameters());
    model.dispose();
    return { reports, bytes };
  };
  const [captured, plain] = [await run(true), await run(false)];
  assert.equal(captured.reports, plain.reports);
  assert.is(captured.reports.length, 8);
  for (const [name, values] of plain.bytes)
    assertBitEqual(captured.bytes.get(name) ?? new Float32Array(), values, name);
});

/** Steps over slots of many lengths: the sum of one. */
function manyShapes(limit: number) {
  const slots = Array.from({ length: 6 }, (_, i) => tensor(gpu, new Float32Array(100 * (i + 1))));
  const steps = new CapturedSteps(gpu, { limit });
  let called = 0;
  return {
    steps,
    get called(): number {
      return called;
    },
    async run(i: number, value: number): Promise<number> {
      const slot = slots[i] as Tensor;
      slot.write(new Float32Array(slot.size).fill(value));
      const result = steps.run(`${slot.size}`, () => {
        called++;
        return slot.mul(2).sum();
      });
      return result.item();
    },
    dispose(): void {
      steps.dispose();
      for (const slot of slots) slot.dispose();
    },
  };
}

training("the step that was not used for longest makes room for another shape", async () => {
  const before = liveBytes(gpu);
  const loop = manyShapes(3);
  for (const i of [0, 0, 1, 1, 2, 2, 0, 0]) await loop.run(i, i);
  assert.equal([loop.steps.size, loop.called], [3, 6]);
  assert.is(await loop.run(3, 5), 4000);
  assert.equal([loop.steps.size, loop.called], [3, 7], "1 has made room");
  assert.is(await loop.run(0, 7), 1400);
  assert.is(await loop.run(2, 7), 4200);
  assert.is(loop.called, 7, "0 and 2 are still replayed");
  assert.is(await loop.run(1, 3), 1200);
  assert.is(loop.called, 8, "1 is run anew");
  loop.dispose();
  assert.equal([liveBytes(gpu), capturedBytes()], [before, 0]);
});

training(
  "more shapes than steps are held: every step runs as without capture, in bounded memory",
  async () => {
    const loop = manyShapes(2);
    const bytes: number[] = [];
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < 6; i++) assert.is(await loop.run(i, round), 200 * (i + 1) * round);
      assert.is(loop.steps.size, 2);
      const { liveBytes: live, pooledBytes, capturedBytes: captured, bindGroups } = gpu.device.statistics();
      bytes.push(live + pooledBytes + captured, bindGroups);
    }
    assert.is(loop.called, 48);
    assert.equal(bytes.slice(4, 6), bytes.slice(14, 16));
    loop.dispose();
  },
);

training.run();
