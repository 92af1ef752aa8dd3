// Whose memory a captured step uses.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openGpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { capture, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { CaptureRegion } from "../src/gpu/index.ts";
import { capturedBytes, counts, floats, network } from "./capture-network.ts";
import { liveBytes, gpu as openTestGpu, withEnv } from "./device.ts";

const gpu = await openTestGpu();
const memory = suite("capture, memory");

memory("from the third run on nothing is created, and as many bytes are live and captured", async () => {
  const net = network();
  const steps = [5, 12].map((size) => ({ size, step: capture(gpu, net.step(size)) }));
  let settled: Record<string, number> = {};
  for (let i = 0; i < 50; i++) {
    for (const { size, step } of steps) {
      net.load(size, i);
      step.run();
    }
    if (i === 2) settled = counts();
    if (i > 2) assert.equal(counts(), settled, `after run ${i + 1}`);
  }
  assert.ok((settled.capturedBytes ?? 0) > 0);
  for (const { step } of steps) step.dispose();
  net.dispose();
});

memory("nothing outside is ever given the memory of a captured step", async () => {
  const x = tensor(gpu, new Float32Array(300).fill(1));
  const step = capture(gpu, () => x.mul(2).add(1).mul(3).sum());
  step.run();
  step.run();
  for (let i = 2; i < 6; i++) {
    // As many tensors of that size as the step has, filled with what would spoil its sum.
    const others = Array.from({ length: 8 }, () => tensor(gpu, new Float32Array(300).fill(1e30)));
    x.write(new Float32Array(300).fill(i));
    step.run();
    assert.is(await step.output.item(), 300 * 3 * (2 * i + 1));
    for (const other of others) {
      assert.ok((await other.data()).every((v) => v === Math.fround(1e30)));
      other.dispose();
    }
  }
  step.dispose();
  x.dispose();
});

memory("steps of one region use the same memory in turn, but for their outputs", async () => {
  const x = tensor(gpu, new Float32Array(5000).fill(1));
  const big = (factor: number) => () => {
    let y = x;
    for (let i = 0; i < 8 - factor; i++) y = y.mul(factor);
    return y;
  };
  const region = new CaptureRegion();
  const first = capture(gpu, big(1), { region });
  for (let i = 0; i < 2; i++) first.run();
  const alone = capturedBytes();
  assert.ok(alone >= 2 * 20_000);
  const others = [2, 3, 4].map((factor) => capture(gpu, big(factor), { region }));
  for (let i = 0; i < 3; i++) for (const step of [...others, first]) step.run();
  assert.is(capturedBytes(), alone, "memory of the region");
  // All have run since each one's output was written.
  for (const [i, step] of [first, ...others].entries())
    assert.ok(
      (await step.output.data()).every((v) => v === (i + 1) ** (7 - i)),
      `output ${i}`,
    );
  for (const step of [first, ...others]) step.dispose();
  x.dispose();
});

memory("dispose gives everything back, once, and the last step of a region its memory", () => {
  const x = tensor(gpu, new Float32Array(1000));
  const region = new CaptureRegion();
  const make = () => capture(gpu, () => x.mul(2).mul(3), { region });
  const before = counts();
  const steps = [make(), make()] as const;
  for (let i = 0; i < 3; i++) for (const step of steps) step.run();
  const held = capturedBytes();
  assert.ok(held > 0);
  steps[0].dispose();
  assert.is(capturedBytes(), held, "the other step needs it");
  steps[1].dispose();
  steps[1].dispose();
  const after = counts();
  assert.is(after.capturedBytes, before.capturedBytes);
  assert.is(after.liveBytes, before.liveBytes);
  {
    using step = capture(gpu, () => x.mul(2), { region });
    for (let i = 0; i < 3; i++) step.run();
    assert.is(counts().created, after.created, "buffers are taken from the pool again");
  }
  assert.is(liveBytes(gpu), before.liveBytes);
  x.dispose();
});

memory("a run inside tidy() keeps outputs, and frees the rest", async () => {
  const x = tensor(gpu, [1, 2]);
  const step = capture(gpu, () => x.mul(2).mul(2));
  for (let i = 0; i < 3; i++) tidy(() => step.run());
  assert.equal(await floats(step.output), [4, 8]);
  const before = liveBytes(gpu);
  tidy(() => step.run());
  assert.is(liveBytes(gpu), before);
  step.dispose();
  x.dispose();
});

memory("what a device keeps for itself is not made of a captured step's memory", async () => {
  const other = await openGpu();
  const x = tensor(other, new Float32Array(600).fill(2), [300, 2]);
  const weight = tensor(other, [1, 1], [1, 1, 2]);
  const bias = tensor(other, [5], [1, 1]);
  const route = tensor(other, Int32Array.of(0));
  bias.requiresGrad = true;
  const gradient = (rows: Tensor): Tensor => {
    bias.grad = null;
    ad.bankLinear(rows, weight, bias, route).sum().backward();
    return bias.grad as unknown as Tensor;
  };
  let runs = 0;
  // The gradient of a bank's bias is a product with a vector of ones: a longer one from the second run on.
  const step = capture(other, () => gradient(runs++ === 0 ? x.slice(0, 0, 2) : x));
  for (let i = 0; i < 4; i++) {
    step.run();
    assert.is(await step.output.item(), i === 0 ? 2 : 300);
  }
  step.dispose();
  const filled = Array.from({ length: 8 }, () => tensor(other, new Float32Array(512).fill(7)));
  assert.is(await tidy(() => gradient(x)).item(), 300);
  for (const t of filled) t.dispose();
  await other.device.close();
});

memory("memory of captured steps counts against the budget, and the error says so", async () => {
  const small = await withEnv("ADAMIX_MEMORY_MB", "1", () => openGpu());
  const x = tensor(small, new Float32Array(40_000));
  const step = capture(small, () => x.mul(2).mul(3).sum());
  for (let i = 0; i < 3; i++) step.run();
  assert.ok(capturedBytes(small) >= 320_000);
  assert.throws(() => small.empty([150_000]), /captured steps 0\.\d MiB\)/);
  step.dispose();
  small.empty([150_000]).release();
  await small.device.close();
});

memory.run();
