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

memory("where the budget ends, steps that do not run give way and are recorded anew", async () => {
  const small = await withEnv("ADAMIX_MEMORY_MB", "1", () => openGpu());
  const before = liveBytes(small);
  const x = tensor(small, new Float32Array(20_000).fill(1)); // 80 KB
  let calls = 0;
  const chain = (n: number) => () => {
    calls++;
    let y = x;
    for (let i = 0; i < n; i++) y = y.add(1);
    return y.sum();
  };
  const steps = [3, 4].map((n) => capture(small, chain(n), { region: new CaptureRegion() }));
  const run = async (): Promise<void> => {
    for (const [i, step] of steps.entries()) {
      step.run();
      assert.is(await step.output.item(), 20_000 * (4 + i));
    }
  };
  for (let i = 0; i < 3; i++) await run();
  assert.is(calls, 4);
  assert.ok(capturedBytes(small) >= 7 * 80_000);
  const large = small.empty([150_000]); // 600 KB
  assert.is(capturedBytes(small), 0);
  assert.ok(liveBytes(small) <= 2 ** 20);
  large.release();
  for (let i = 0; i < 3; i++) await run();
  assert.is(calls, 6, "each was recorded once more");
  // 13 intermediate tensors do not fit, whatever else gives way. What did fit is used again.
  const tooLarge = capture(small, chain(13));
  for (let i = 0; i < 2; i++)
    assert.throws(
      () => tooLarge.run(),
      /pool: 0\.1 MiB more for f32 \[[\d, ]+\] would exceed the budget of 1\.0 MiB/,
    );
  tooLarge.dispose();
  await run();
  for (const step of steps) step.dispose();
  x.dispose();
  assert.equal([liveBytes(small) - before, capturedBytes(small)], [0, 0]);
  await small.device.close();
});

memory("a budget that ends while a step is recorded takes nothing from that step", async () => {
  const small = await withEnv("ADAMIX_MEMORY_MB", "1", () => openGpu());
  const x = tensor(small, new Float32Array(20_000).fill(1));
  const hog = capture(small, () => x.add(1).add(1).add(1).add(1).sum());
  // Gives three tensors back, then needs larger ones that only fit without the other step.
  let calls = 0;
  const step = capture(small, () => {
    calls++;
    const part = tidy(() => x.add(1).add(1).add(1).slice(0, 0, 1).mul(1));
    return ad.concat([x, x, x], 0).add(part).sum();
  });
  for (let i = 0; i < 2; i++) hog.run();
  for (let i = 0; i < 4; i++) {
    x.write(new Float32Array(20_000).fill(i));
    step.run();
    assert.is(await step.output.item(), 60_000 * (i + i + 3));
    hog.run();
    assert.is(await hog.output.item(), 20_000 * (i + 4));
  }
  assert.is(calls, 4, "each run of the other took its memory");
  for (const s of [hog, step]) s.dispose();
  await small.device.close();
});

memory.run();
