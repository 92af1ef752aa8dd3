// The training steps that ratios are measured on: that each is what its name says.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { interleave, ratio } from "../bench/interleave.ts";
import { measureFigures } from "../bench/step-figures.ts";
import { gpt2, type MakeSubject, roberta, type Sizes, type Subject } from "../bench/subjects.ts";
import { prepareInference, prepareTraining, type Tuning } from "../bench/training.ts";
import type { Gpu } from "../src/array/index.ts";
import { adamixAdapter, adamixLora, adapter } from "../src/peft/index.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const training = suite("bench: training");

const SIZES: Sizes = { layers: 2, channels: 16, heads: 2, vocabulary: 37, batch: 3, tokens: 7 };

const STEPS = 8;

async function losses(gpu: Gpu, make: MakeSubject, tuning: Tuning, isCaptured = true): Promise<number[]> {
  const subject = make(gpu, SIZES);
  const step = prepareTraining(gpu, subject, tuning, { isCaptured });
  const found: number[] = [];
  for (let i = 0; i < STEPS; i++) {
    step.run();
    found.push(await step.loss().item());
  }
  step.dispose();
  subject.dispose();
  return found;
}

function assertClose(actual: readonly number[], expected: readonly number[]): void {
  actual.forEach((loss, i) => {
    assert.ok(Math.abs(loss - (expected[i] ?? Number.NaN)) < 1e-6, `${actual}, expected ${expected}`);
  });
}

const mixtures = [
  ["roberta", roberta, adamixAdapter({ bottleneck: 4, initStd: 2 })],
  ["gpt2", gpt2, adamixLora({ rank: 2 })],
] as const;

for (const [name, make, method] of mixtures) {
  training(`${name}: two passes after one another are two passes in one batch`, async () => {
    const gpu = await testGpu();
    const one = await losses(gpu, make, { method, passes: "one" });
    const batched = await losses(gpu, make, { method, passes: "two in one batch" });
    const inTurn = await losses(gpu, make, { method, passes: "two after one another" });
    assertClose(inTurn, batched);
    const apart = batched.map((loss, i) => Math.abs(loss - (one[i] as number)));
    assert.ok(Math.max(...apart) > 5e-6, `the second pass counts: ${apart}`);
  });

  training(`${name}: full fine-tuning lowers the loss, replayed as called; memory goes back`, async () => {
    const gpu = await testGpu();
    const tuning = { method: null, passes: "one" } as const;
    const replayed = await losses(gpu, make, tuning);
    const before = liveBytes(gpu); // with what the device makes once
    assertClose(await losses(gpu, make, tuning, false), replayed);
    assert.ok((replayed[STEPS - 1] as number) < (replayed[0] as number));
    assert.is(liveBytes(gpu), before);
  });
}

training("an adaptation leaves the model's parameters out, but for the head's", async () => {
  const gpu = await testGpu();
  const subject = roberta(gpu, SIZES);
  const step = prepareTraining(gpu, subject, { method: adapter({ bottleneck: 4 }), passes: "one" });
  const trained = subject.model.parameters().filter(({ requiresGrad }) => requiresGrad);
  assert.equal(trained, [...subject.head]);
  step.dispose();
  subject.dispose();
});

training("inference with merged experts dispatches what the plain method does", async () => {
  const gpu = await testGpu();
  const subject = roberta(gpu, SIZES);
  const plain = await dispatchesOf(gpu, subject, false);
  assert.is(await dispatchesOf(gpu, subject, true), plain);
  subject.dispose();
});

async function dispatchesOf(gpu: Gpu, subject: Subject, isMerged: boolean): Promise<number> {
  const config = { bottleneck: 4 };
  const method = isMerged ? adamixAdapter(config) : adapter(config);
  const inference = prepareInference(gpu, subject, method, { isMerged });
  inference.run();
  const before = gpu.device.statistics().dispatches;
  inference.run();
  const count = gpu.device.statistics().dispatches - before;
  inference.dispose();
  return count;
}

training("a replayed step makes nothing; its peak is its own, whatever else is alive", async () => {
  const gpu = await testGpu();
  const prepare = () => {
    const subject = roberta(gpu, SIZES);
    const step = prepareTraining(gpu, subject, { method: null, passes: "one" });
    const dispose = (): void => {
      step.dispose();
      subject.dispose();
    };
    return { run: step.run, dispose, subject };
  };
  const first = await measureFigures(gpu, prepare);
  const second = await measureFigures(gpu, prepare); // while the first is alive
  const { peakBytes, created, dispatches, submits, hostMicrosecondsPerDispatch, idleShare } = second.figures;
  assert.is(created, 0);
  assert.is(submits, 1);
  assert.ok(dispatches > 50 && hostMicrosecondsPerDispatch > 0);
  const parameters = first.step.subject.model.parameters().reduce((sum, { size }) => sum + size, 0);
  // Values, gradients and two moments in f32.
  assert.ok(peakBytes > 16 * parameters, `${peakBytes} bytes of ${parameters} parameters`);
  assert.ok(Math.abs(peakBytes / first.figures.peakBytes - 1) < 0.01);
  assert.ok(Number.isNaN(idleShare) === !gpu.device.watch.hasTimestamps && !(idleShare >= 1));
  for (const { step } of [first, second]) step.dispose();
});

training("contenders are measured in turn, another first in each round", async () => {
  const gpu = await testGpu();
  const turns: string[] = [];
  const sleep = (ms: number): void => {
    for (const until = performance.now() + ms; performance.now() < until; );
  };
  const contenders = [
    { name: "short", run: () => sleep(31) }, // longer than a sample should be at least
    { name: "long", run: () => sleep(62) },
  ];
  const options = { rounds: 2, seconds: 0, onTurn: (what: string) => turns.push(what) };
  const [short = [], long = []] = await interleave(gpu, contenders, options);
  assert.equal(turns, [
    "short, round 1 of 2",
    "long, round 1 of 2",
    "long, round 2 of 2",
    "short, round 2 of 2",
  ]);
  assert.ok(short.length === 2 && short.every((ms) => ms >= 31));
  assert.equal(ratio([2, 60, 9], [1, 20, 3]), { value: 3, interval: [2, 3] });
  assert.equal(ratio(long, long).value, 1);
});

training.run();
