// Training in halves: autocast, f32 masters, and loss scaling whose decisions are made on the device.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  autocast,
  crossEntropy,
  gelu,
  layerNorm,
  linear,
  noGrad,
  Parameter,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { AdamW, clipGradNorm, LossScaler } from "../src/optim/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const mixed = suite("mixed precision");
const floats = async (x: Tensor | null | undefined): Promise<Float32Array> =>
  (await x?.data()) as Float32Array;

mixed(
  "autocast: products give halves, losses f32, masters keep their type and get f32 gradients",
  async () => {
    const stream = Stream.seed(1);
    const weight = Parameter.from(gpu, stream.fold("w").normal(7 * 12), [7, 12]);
    const gain = Parameter.from(gpu, new Float32Array(7).fill(1), [7]);
    const x = tensor(gpu, stream.fold("x").normal(5 * 12), [5, 12]);
    const labels = tensor(gpu, Int32Array.of(0, 3, 6, 1, 2));
    for (const dtype of ["f16", "bf16"] as const) {
      const types: string[] = [];
      const loss = tidy(() => {
        const result = autocast(dtype, () => {
          const y = linear(x, weight);
          const normed = layerNorm(y, gain, gain);
          types.push(y.dtype, gelu(y).dtype, normed.dtype, autocast(null, () => linear(x, weight)).dtype);
          return crossEntropy(y.add(linear(x, weight)), labels);
        });
        result.backward();
        return result;
      });
      assert.equal(types, [dtype, dtype, "f32", "f32"]);
      assert.is(loss.dtype, "f32");
      assert.is(weight.dtype, "f32");
      assert.is(weight.grad?.dtype, "f32");
      loss.dispose();
      weight.grad = null;
    }
    assert.is(tidy(() => linear(x, weight)).dtype, "f32");
    for (const made of [weight, gain, x, labels]) made.dispose();
  },
);

mixed("a weight that several ops use is cast once, again where a gradient is wanted", () => {
  const weight = Parameter.from(gpu, Stream.seed(2).normal(64), [8, 8]);
  const x = tensor(gpu, Stream.seed(3).normal(16), [2, 8], { dtype: "f16" });
  const count = (times: number): number => {
    const before = gpu.device.statistics().dispatches;
    noGrad(() =>
      tidy(() => autocast("f16", () => void Array.from({ length: times }, () => linear(x, weight)))),
    );
    return gpu.device.statistics().dispatches - before;
  };
  assert.is(count(3) - count(2), count(2) - count(1), "each further use costs the same");
  assert.is(count(1) - 1, count(2) - count(1), "and one cast less than the first");
  tidy(() =>
    autocast("f16", () => {
      noGrad(() => linear(x, weight));
      linear(x, weight).to("f32").sum().backward();
    }),
  );
  assert.ok(weight.grad, "the cast of the frozen use leads no gradient back, and is not used");
  for (const made of [weight, x]) made.dispose();
});

mixed("small gradients survive in f16 where the loss is scaled, and are the f32 ones", async () => {
  const weight = Parameter.from(gpu, Stream.seed(4).normal(4 * 6), [4, 6]);
  const optimiser = new AdamW([weight]);
  const x = tensor(gpu, Stream.seed(5).normal(3 * 6), [3, 6]);
  const run = async (scaler: LossScaler | null, dtype: "f16" | null): Promise<Float32Array> => {
    optimiser.zeroGrad();
    tidy(() => {
      const loss = autocast(dtype, () => linear(x, weight).to("f32").sum().mul(1e-9));
      (scaler ? scaler.scale(loss) : loss).backward();
    });
    scaler?.unscale(optimiser.arena);
    return floats(weight.grad);
  };
  const scaler = new LossScaler(gpu, { initial: 2 ** 20 });
  const expected = await run(null, null);
  assert.ok(
    (await run(null, "f16")).every((g) => g === 0),
    "1e-9 is 0 in f16",
  );
  assertClose(await run(scaler, "f16"), expected, { rtol: 1e-3, atol: 1e-13 });
  for (const made of [scaler, optimiser, weight, x]) made.dispose();
});

mixed("a step with overflow changes nothing but the scale", async () => {
  const weight = Parameter.from(gpu, Float32Array.of(1, 2, 3), [3]);
  const optimiser = new AdamW([weight], { lr: 0.1 });
  const scaler = new LossScaler(gpu, { initial: 1024, interval: 2 });
  const step = (factor: number): void => {
    optimiser.zeroGrad();
    const x = tensor(gpu, Float32Array.of(factor, 1, 1));
    tidy(() => scaler.scale(weight.mul(x).sum()).backward());
    x.dispose();
    scaler.unscale(optimiser.arena);
    clipGradNorm(optimiser.arena, 10).dispose();
    optimiser.step();
    scaler.update();
  };
  step(1);
  const [before, state] = [await floats(weight), await optimiser.state()];
  assert.equal(await scaler.state(), { scale: 1024, steps: 1 });
  for (const [i, bad] of [Number.POSITIVE_INFINITY, Number.NaN, 3e38].entries()) {
    step(bad); // 3e38 · 512 and more overflow in f32 itself
    assertBitEqual(await floats(weight), before, `weights after ${bad}`);
    const now = await optimiser.state();
    for (const name of ["firstMoments", "secondMoments", "steps"] as const)
      assertBitEqual(now[name], state[name], name);
    assert.equal(await scaler.state(), { scale: 1024 / 2 ** (i + 1), steps: 0 });
  }
  step(1);
  assert.not.equal(await floats(weight), before);
  step(1);
  assert.equal(await scaler.state(), { scale: 256, steps: 0 }, "grown after two good steps");
  scaler.loadState({ scale: 8, steps: 1 });
  step(1);
  assert.equal(await scaler.state(), { scale: 16, steps: 0 });
  for (const made of [scaler, optimiser, weight]) made.dispose();
});

mixed("a network trains in f16 and in bf16 as it does in f32, with half the activations", async () => {
  const results: Record<string, { losses: number[]; peak: number }> = {};
  for (const dtype of [null, "f16", "bf16"] as const) results[dtype ?? "f32"] = await train(dtype);
  const { f32, f16, bf16 } = results;
  if (!f32 || !f16 || !bf16) throw new Error("three runs");
  assert.ok((f32.losses.at(-1) ?? 9) < 0.5 * (f32.losses[0] ?? 0), `f32 learns: ${f32.losses}`);
  // Twelve steps from the same start: the halves' roundings (2^-11 and 2^-8 of each activation) have grown by then.
  assertClose(f16.losses, f32.losses, { rtol: 5e-3, name: "f16" });
  assertClose(bf16.losses, f32.losses, { rtol: 4e-2, name: "bf16" });
  assert.ok(f16.peak < 0.65 * f32.peak, `${f16.peak} bytes live before backward, ${f32.peak} in f32`);
});

async function train(dtype: "f16" | "bf16" | null): Promise<{ losses: number[]; peak: number }> {
  const stream = Stream.seed(7);
  const [rows, width, classes] = [256, 128, 5];
  const make = (name: string, n: number, m: number): Parameter =>
    Parameter.from(gpu, stream.fold(name).normal(n * m, 0, 1 / Math.sqrt(m)), [n, m]);
  const [a, b, c] = [make("a", width, 16), make("b", width, width), make("c", classes, width)];
  const x = tensor(gpu, stream.fold("x").normal(rows * 16), [rows, 16]);
  const labels = tensor(
    gpu,
    Int32Array.from({ length: rows }, (_, i) => (i * 7) % classes),
  );
  const optimiser = new AdamW([a, b, c], { lr: 0.01 });
  const scaler = new LossScaler(gpu);
  const losses: number[] = [];
  let peak = 0;
  for (let step = 0; step < 12; step++) {
    optimiser.zeroGrad();
    const before = liveBytes(gpu);
    const loss = tidy(() => {
      const value = autocast(dtype, () => {
        const h = gelu(linear(gelu(linear(x, a)), b));
        return crossEntropy(linear(h, c), labels);
      });
      peak = liveBytes(gpu) - before;
      scaler.scale(value).backward();
      return value;
    });
    scaler.unscale(optimiser.arena);
    optimiser.step();
    scaler.update();
    losses.push(await loss.item());
    loss.dispose();
  }
  for (const made of [a, b, c, x, labels, optimiser, scaler]) made.dispose();
  return { losses, peak };
}

mixed("refusals", () => {
  assert.throws(() => new LossScaler(gpu, { backoff: 2 }), /backoff is 2, expected 0 < backoff <= 1/);
  assert.throws(() => new LossScaler(gpu).update(), /update\(\) comes after unscale\(\)/);
  const half = Parameter.from(gpu, new Float32Array(4), [2, 2], { dtype: "f16" });
  assert.throws(() => new AdamW([half]), /a trainable parameter \[2, 2\] of f16; keep an f32 master/);
  assert.throws(() => autocast("f16", async () => 1), /autocast: takes a synchronous function/);
  half.dispose();
});

mixed.run();
