// What a captured step refuses, and says.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openGpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { capture, tensor, tidy } from "../src/autograd/index.ts";
import { CaptureRegion } from "../src/gpu/index.ts";
import { accumulate } from "../src/ops/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { counts, parametersOf } from "./capture-network.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const errors = suite("capture, errors");

/** The error of the first run of a step, or of its second. */
function refused(message: RegExp, fn: () => unknown, firstRun: "fails" | "succeeds"): void {
  const before = counts();
  const step = capture(gpu, fn);
  if (firstRun === "succeeds") step.run();
  for (let i = 0; i < 2; i++) assert.throws(() => step.run(), message);
  step.dispose();
  const after = counts();
  assert.is(after.liveBytes, before.liveBytes, "bytes after dispose()");
  assert.is(after.capturedBytes, before.capturedBytes);
}

errors("writing to what was there before", () => {
  const x = tensor(gpu, [1, 2]);
  const message = /write: run\(\) does not repeat an upload .*; write input slots before run\(\)/;
  refused(message, () => x.write(Float32Array.of(3, 4)), "fails");
  x.dispose();
});

errors("values of the host that a step would keep", () => {
  const x = tensor(gpu, [1, 2]);
  const message = /tensor: a captured step would keep these values for ever; make the tensor outside/;
  refused(message, () => tidy(() => x.add(tensor(gpu, [1, 2]))), "succeeds");
  x.dispose();
});

errors("a learning rate inside, also one that does not change", () => {
  const parameters = parametersOf([3]);
  const optimiser = new AdamW(parameters, { lr: 0.1 });
  const message = /AdamW: a captured step would keep the rate 0\.1 for ever; call setLearningRate\(\) before/;
  refused(message, () => optimiser.step(0.1), "fails");
  refused(message, () => optimiser.setLearningRate(0.1), "fails");
  optimiser.dispose();
  for (const parameter of parameters) parameter.dispose();
});

errors("reading inside", async () => {
  const x = tensor(gpu, [1, 2]);
  const reads: Promise<string>[] = [];
  const step = capture(gpu, () => {
    reads.push(x.data().then(String, (error: Error) => error.message));
  });
  step.run();
  step.run();
  for (const message of await Promise.all(reads))
    assert.match(message, /read: not inside a captured step; return the tensor and read the step's output/);
  step.dispose();
  x.dispose();
});

errors("functions that wait, and results that are no tensors", () => {
  const x = tensor(gpu, [1, 2]);
  refused(/capture: takes a synchronous function/, async () => {}, "fails");
  refused(
    /capture: output\.n is a number, which would be the recorded step's for ever/,
    () => ({ n: 1 }),
    "fails",
  );
  refused(/capture: output\[0\] is a Map/, () => [new Map()], "fails");
  x.dispose();
});

errors("a step inside another, and tensors of another device", async () => {
  const other = await openGpu();
  const [x, y] = [tensor(gpu, [1]), tensor(other, [1])];
  const inner = capture(gpu, () => x.mul(2));
  const nested = /capture: run\(\) of a captured step inside another/;
  refused(nested, () => inner.run(), "fails");
  for (let i = 0; i < 3; i++) inner.run();
  refused(nested, () => inner.run(), "fails");
  refused(/capture: dispose\(\) of a captured step inside another/, () => inner.dispose(), "fails");
  const elsewhere = /capture: the step uses a tensor of another device/;
  refused(elsewhere, () => y.mul(2), "fails");
  refused(elsewhere, () => y.write(Float32Array.of(2)), "fails");
  refused(/capture: output is a tensor of another device/, () => y, "fails");
  inner.dispose();
  const region = new CaptureRegion();
  const here = capture(gpu, () => x.mul(2), { region });
  assert.throws(
    () => capture(other, () => y.mul(2), { region }),
    /the region holds memory of another device/,
  );
  here.dispose();
  x.dispose();
  await other.device.close();
});

errors("a tensor that was freed, before it is recorded and after", async () => {
  const x = tensor(gpu, [1, 2]);
  const before = liveBytes(gpu);
  const y = tensor(gpu, [3, 4]);
  const step = capture(gpu, () => x.add(y).sum());
  for (let i = 0; i < 3; i++) step.run();
  y.dispose();
  const others = Array.from({ length: 4 }, () => tensor(gpu, [1e30, 1e30]));
  assert.throws(() => step.run(), /a tensor of 256 bytes that the step uses was freed \(or replaced\) after/);
  assert.is(await step.output.item(), 10);
  for (const t of others) t.dispose();
  step.dispose();
  assert.is(liveBytes(gpu), before, "a pinned buffer goes back with the step");
  refused(/array \[2\]: used after it was freed/, () => x.add(y), "fails");
  x.dispose();
});

errors("a step that frees what was made before it", () => {
  const x = tensor(gpu, [1, 2]);
  let state = tensor(gpu, [0, 0]);
  refused(
    /capture: the step frees \(or replaces\) a tensor of 256 bytes that was made before it began/,
    () => {
      const next = ad.keep(state.add(x));
      state.dispose();
      state = next;
    },
    "succeeds",
  );
  state.dispose();
  x.dispose();
});

errors("a result of another shape than at first, or more results", () => {
  const x = tensor(gpu, [1, 2, 3]);
  let n = 0;
  refused(
    /output\.y was f32 \[1\] at first and is f32 \[2\] now; capture a step for each shape/,
    () => ({ y: x.slice(0, 0, Math.min(++n, 2)) }),
    "succeeds",
  );
  n = 0;
  refused(
    /capture: the step returned 1 tensors at first and 2 now/,
    () => (n++ === 0 ? [x.mul(2)] : [x.mul(2), x.mul(3)]),
    "succeeds",
  );
  x.dispose();
});

errors("run() after dispose(), and output before run()", () => {
  const step = capture(gpu, () => undefined);
  assert.throws(() => step.output, /capture: there is no output before the first run\(\)/);
  step.dispose();
  assert.throws(() => step.run(), /capture: run\(\) after dispose\(\); capture the step anew/);
});

errors("a step that throws changes nothing, and can be run again", async () => {
  const x = tensor(gpu, [1]);
  const total = gpu.from(Float32Array.of(0));
  let fails = false;
  const step = capture(gpu, () => {
    const y = x.mul(2);
    accumulate(gpu, total, y.array);
    if (fails) throw new Error("on purpose");
    return y;
  });
  step.run();
  fails = true;
  for (let i = 0; i < 3; i++) assert.throws(() => step.run(), /on purpose/);
  assert.equal([...(await gpu.read(total))], [2], "the failed runs added nothing");
  fails = false;
  for (let i = 0; i < 3; i++) step.run();
  assert.equal([...(await gpu.read(total))], [8]);
  step.dispose();
  total.release();
  x.dispose();
});

errors.run();
