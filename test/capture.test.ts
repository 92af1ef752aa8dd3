// A captured step computes what the function computes, bit for bit.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import { type CapturedStep, capture, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { CaptureRegion } from "../src/gpu/index.ts";
import { accumulate } from "../src/ops/index.ts";
import { LossScaler } from "../src/optim/index.ts";
import { floats, network } from "./capture-network.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const replays = suite("capture");

/** The values of every step, and of the parameters at the end. */
async function train(steps: number, sizes: readonly number[], captured: boolean): Promise<Float32Array> {
  const net = network();
  const region = new CaptureRegion();
  const known = new Map<number, CapturedStep<ReturnType<ReturnType<typeof net.step>>>>();
  const values: number[] = [];
  for (let i = 0; i < steps; i++) {
    const size = sizes[i % sizes.length] as number;
    net.load(size, i);
    let output: ReturnType<ReturnType<typeof net.step>>;
    if (captured) {
      const step = known.get(size) ?? capture(gpu, net.step(size), { region });
      known.set(size, step);
      step.run();
      output = step.output;
    } else output = tidy(net.step(size));
    const { loss, more } = output;
    for (const t of [loss, ...more]) values.push(...(await floats(t)));
    if (!captured) for (const t of [loss, ...more]) t.dispose();
  }
  for (const parameter of net.parameters) values.push(...(await floats(parameter)));
  for (const step of known.values()) step.dispose();
  net.dispose();
  return Float32Array.from(values);
}

replays("100 steps of three batch sizes give the bytes that they give without capture", async () => {
  const sizes = [5, 7, 12];
  assertBitEqual(await train(100, sizes, true), await train(100, sizes, false));
});

replays("mixed precision, with steps that overflow and are left out on the device", async () => {
  const run = async (captured: boolean): Promise<Float32Array> => {
    const net = network();
    // Grows until gradients overflow, again and again.
    const scaler = new LossScaler(gpu, { initial: 2 ** 18, growth: 64, interval: 3 });
    const fn = net.step(5, { scaler });
    const step = captured ? capture(gpu, fn) : null;
    const values: number[] = [];
    for (let i = 0; i < 30; i++) {
      net.load(5, i);
      step?.run();
      const { loss, more } = step ? step.output : tidy(fn);
      values.push(await loss.item(), (await scaler.state()).scale);
      if (!step) for (const t of [loss, ...more]) t.dispose();
    }
    for (const parameter of net.parameters) values.push(...(await floats(parameter)));
    step?.dispose();
    scaler.dispose();
    net.dispose();
    return Float32Array.from(values);
  };
  const plain = await run(false);
  const scales = plain.filter((_, i) => i % 2 === 1 && i < 60);
  assert.ok(
    scales.some((scale, i) => scale < (scales[i - 1] ?? 0)),
    "the scale backs off",
  );
  assertBitEqual(await run(true), plain);
});

replays("outputs are the same tensors from the first run on", async () => {
  const x = tensor(gpu, [1, 2]);
  const step = capture(gpu, () => ({ double: x.mul(2), rest: [x.sum(), null] }));
  step.run();
  const { output } = step;
  for (const value of [1, 5, 6, 7]) {
    x.write(Float32Array.of(value, 3));
    step.run();
    assert.is(step.output, output);
    assert.equal(await floats(output.double), [2 * value, 6]);
    assert.is(await output.rest[0]?.item(), value + 3);
    assert.is(output.rest[1], null);
  }
  step.dispose();
  x.dispose();
});

replays("reads that were begun before the next run get the values of theirs", async () => {
  const x = tensor(gpu, [0]);
  const step = capture(gpu, () => x.add(1));
  const reads: Promise<number>[] = [];
  for (let i = 0; i < 6; i++) {
    x.write(Float32Array.of(i));
    step.run();
    reads.push(step.output.item());
  }
  assert.equal(await Promise.all(reads), [1, 2, 3, 4, 5, 6]);
  step.dispose();
  x.dispose();
});

replays("an upload before a run overtakes neither that run nor the one before", async () => {
  const slot = tensor(gpu, [0]);
  const total = gpu.from(Float32Array.of(0));
  const step = capture(gpu, () => accumulate(gpu, total, slot.array));
  const { submits } = gpu.device.statistics();
  let expected = 0;
  for (let i = 1; i <= 700; i++) {
    slot.write(Float32Array.of(i));
    for (let j = 0; j <= i % 2; j++) step.run();
    expected += i * (1 + (i % 2));
  }
  assert.is((await gpu.read(total))[0], expected);
  assert.ok(gpu.device.statistics().submits > submits);
  step.dispose();
  total.release();
  slot.dispose();
});

replays("views, integers, scalars, nothing and a tensor from outside are outputs too", async () => {
  const x = tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
  const ids = tensor(gpu, Int32Array.of(7, -8));
  const empty = tensor(gpu, [], [0, 3]);
  const step = capture(gpu, () => [x.transpose(0, 1), x.slice(1, 1, 2), ids, empty, x] as const);
  for (let i = 0; i < 3; i++) step.run();
  const [turned, column, integers, none, whole] = step.output;
  assert.equal(turned.shape, [3, 2]);
  assert.equal(await floats(turned), [1, 4, 2, 5, 3, 6]);
  assert.equal(await floats(column), [2, 5]);
  assert.equal([integers.dtype, await floats(integers)], ["i32", [7, -8]]);
  assert.equal(none.shape, [0, 3]);
  x.write(new Float32Array(6).fill(9));
  assert.equal(await floats(whole), [1, 2, 3, 4, 5, 6], "a copy of what it was in the last run");
  step.dispose();
  for (const t of [x, ids, empty]) t.dispose();
  const nothing = capture(gpu, () => undefined);
  for (let i = 0; i < 3; i++) nothing.run();
  assert.is(nothing.output, undefined);
  nothing.dispose();
});

replays("a step of more dispatches than a submit holds", async () => {
  const x = tensor(gpu, [0]);
  const step = capture(gpu, () => {
    let y = x;
    for (let i = 0; i < 700; i++) y = y.add(1);
    return y;
  });
  for (let i = 0; i < 4; i++) {
    x.write(Float32Array.of(i));
    step.run();
    assert.is(await step.output.item(), 700 + i);
  }
  step.dispose();
  x.dispose();
});

replays("copies between buffers are replayed in order", async () => {
  const [x, y] = [gpu.from(Float32Array.of(1, 2, 3, 4)), gpu.empty([4])];
  const [source, target] = [x, y].map(({ storage }) => storage.chunks[0]);
  if (!source || !target) throw new Error("no chunks");
  const { recorder } = gpu.device;
  const step = capture(gpu, () => {
    const before = new ad.Tensor(gpu, y.view([4])).mul(1);
    recorder.copy(source, 4, target, 0, 8);
    recorder.copy(source, 0, target, 8, 8);
    return [before, new ad.Tensor(gpu, y.view([4])).mul(1)] as const;
  });
  for (let i = 1; i <= 4; i++) {
    gpu.write(x, Float32Array.of(i, 2, 3, 4));
    gpu.write(y, Float32Array.of(0, 0, 0, i));
    step.run();
    assert.equal(await floats(step.output[0]), [0, 0, 0, i]);
    assert.equal(await floats(step.output[1]), [2, 3, i, 2]);
  }
  step.dispose();
  for (const array of [x, y]) array.release();
});

replays("gradients without an optimiser: set to null inside, and added to where they are not", async () => {
  const x = tensor(gpu, [1, 2]);
  const sum = tensor(gpu, [0, 0]);
  for (const t of [x, sum]) t.requiresGrad = true;
  const step = capture(gpu, () => {
    x.grad = null;
    const loss = x.mul(x).sum().add(sum.mul(x.detach()).sum());
    loss.backward();
    return { loss, gradient: x.grad as unknown as Tensor };
  });
  let expected = [0, 0];
  for (let i = 1; i <= 4; i++) {
    const values = [i, 2 * i];
    x.write(Float32Array.from(values));
    step.run();
    assert.equal(
      await floats(step.output.gradient),
      values.map((v) => 2 * v),
    );
    assert.equal(
      await floats(x.grad as unknown as Tensor),
      values.map((v) => 2 * v),
    );
    expected = expected.map((v, j) => v + (values[j] as number));
    assert.equal(await floats(sum.grad as unknown as Tensor), expected);
  }
  step.dispose();
  for (const t of [x, sum]) t.dispose();
});

replays("the example of the docstring runs", async () => {
  const text = readFileSync(new URL("../src/autograd/capture.ts", import.meta.url), "utf8");
  const code = /\* ```ts\n([\s\S]*?)\* ```/.exec(text)?.[1]?.replaceAll(/^ \* ?/gm, "") ?? "";
  const printed: number[] = [];
  const AsyncFunction = (async () => {}).constructor as new (
    ...args: string[]
  ) => (...args: unknown[]) => Promise<void>;
  await new AsyncFunction("gpu", "tensor", "capture", "print", code)(gpu, tensor, capture, (n: number) =>
    printed.push(n),
  );
  assert.equal(printed.join(", "), /print\(.*\/\/ (.*)/.exec(code)?.[1]);
  assert.is(printed.length, 3);
});

replays.run();
