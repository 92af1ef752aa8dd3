// Training beyond the largest binding: the optimiser's arena in segments, and a step with a tied table.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import { mul, Parameter, Stream, sum, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { AdamW, type AdamWOptions, clipGradNorm, LossScaler } from "../src/optim/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { assertRows, tiedBatch, tiedReference, tiedStep } from "./tied-step.ts";

const gpu = await openTestGpu();
const floats = async (x: Tensor | null | undefined): Promise<Float32Array> =>
  (await x?.data()) as Float32Array;

const arenas = suite("an arena of segments");

/** More than AdamW's table of corrections, and less than two of the parameters. */
const MOST = 160 * 1024;

/** Small parameters that share a segment, one larger than a binding, and a bank whose experts lie in several chunks. */
function makeParameters(on: Gpu): Parameter[] {
  const shapes = [[5], [400, 16], [1000, 100], [70, 90], [3], [300, 100]];
  const plain = shapes.map((shape, i) => {
    const size = shape.reduce((product, n) => product * n, 1);
    return Parameter.from(on, Stream.seed(i).normal(size), shape);
  });
  const experts = [4, 120, 100];
  const bank = Parameter.from(on, Stream.seed(50).normal(48_000), experts, { slices: 4 });
  return [...plain.slice(0, 3), bank, ...plain.slice(3)];
}

/** Collects Σ parameter · gradient's gradients, and marks which experts were drawn. */
function collect(on: Gpu, parameters: readonly Parameter[], step: number): void {
  tidy(() => {
    for (const [i, parameter] of parameters.entries()) {
      const gradient = Stream.seed(1000 * step + i).normal(parameter.size);
      sum(mul(parameter, tensor(on, gradient, parameter.shape))).backward();
      if (parameter.drawn) on.write(parameter.drawn, Uint32Array.of(1, step % 2, 0, 1));
    }
  });
}

async function train(on: Gpu, options: AdamWOptions, steps: number) {
  const parameters = makeParameters(on);
  const optimiser = new AdamW(parameters, { lr: 0.05, weightDecay: 0.1, ...options });
  for (let step = 1; step <= steps; step++) {
    optimiser.zeroGrad();
    collect(on, parameters, step);
    optimiser.step();
  }
  const values = await Promise.all(parameters.map(floats));
  return { parameters, optimiser, values, state: await optimiser.state() };
}

function dispose({ parameters, optimiser }: { parameters: readonly Parameter[]; optimiser: AdamW }): void {
  optimiser.dispose();
  for (const parameter of parameters) {
    parameter.dispose();
    parameter.drawn?.release();
  }
}

for (const options of [{}, { undrawn: "skip" }, { convention: "huggingface" }] as const) {
  arenas(`AdamW ${JSON.stringify(options)} gives the bits of one segment`, async () => {
    const whole = await train(gpu, options, 4);
    const on = new Gpu(gpu.device, { maxBindingBytes: MOST });
    const parted = await train(on, options, 4);
    assert.is(whole.optimiser.arena.segments.length, 1);
    const { segments } = parted.optimiser.arena;
    assert.ok(segments.length > 3, `${segments.length} segments`);
    assert.ok(segments.some(({ entries }) => entries.length > 1));
    assert.ok(segments.some(({ values }) => values.storage.chunks.length > 2));
    for (const [i, values] of parted.values.entries())
      assertBitEqual(values, whole.values[i] as Float32Array, `parameter ${i}`);
    for (const name of ["firstMoments", "secondMoments", "steps"] as const)
      assertBitEqual(parted.state[name], whole.state[name], name);
    for (const made of [whole, parted]) dispose(made);
  });
}

arenas("a checkpoint of one layout goes on in the other", async () => {
  const on = new Gpu(gpu.device, { maxBindingBytes: MOST });
  const whole = await train(gpu, {}, 3);
  const parted = await train(on, {}, 1);
  for (const [i, values] of whole.values.entries())
    parted.parameters[i]?.write(values as Float32Array<ArrayBuffer>);
  parted.optimiser.loadState(whole.state);
  for (const { parameters, optimiser, on: own } of [
    { ...whole, on: gpu },
    { ...parted, on },
  ]) {
    optimiser.zeroGrad();
    collect(own, parameters, 9);
    optimiser.step();
  }
  for (const [i, parameter] of parted.parameters.entries())
    assertBitEqual(await floats(parameter), await floats(whole.parameters[i]), `parameter ${i}`);
  for (const made of [whole, parted]) dispose(made);
});

arenas("the norm runs over all segments, and clipping reaches each", async () => {
  const on = new Gpu(gpu.device, { maxBindingBytes: MOST });
  const parameters = makeParameters(on);
  const optimiser = new AdamW(parameters);
  collect(on, parameters, 1);
  const gradients = await Promise.all(parameters.map(({ grad }) => floats(grad)));
  const norm = Math.sqrt(gradients.reduce((all, values) => all + values.reduce((s, v) => s + v * v, 0), 0));
  const given = clipGradNorm(optimiser.arena, 1);
  assertClose([await given.item()], [norm], { rtol: 1e-6, name: "norm" });
  for (const [i, values] of gradients.entries()) {
    const expected = values.map((v) => v / (norm + 1e-6));
    assertClose(await floats(parameters[i]?.grad), expected, { rtol: 1e-6, name: `gradient ${i}` });
  }
  given.dispose();
  dispose({ parameters, optimiser });
});

arenas("one infinite gradient in the last chunk of a large parameter leaves the step out", async () => {
  const on = new Gpu(gpu.device, { maxBindingBytes: MOST });
  const parameters = makeParameters(on);
  const optimiser = new AdamW(parameters);
  const scaler = new LossScaler(on, { initial: 8 });
  const before = await Promise.all(parameters.map(floats));
  collect(on, parameters, 1);
  const large = parameters[2] as Parameter;
  const place = (large.grad as Tensor).array;
  const last = place.view([1], place.offset + large.size - 64);
  on.write(last, Float32Array.of(Number.POSITIVE_INFINITY));
  last.release();
  scaler.unscale(optimiser.arena);
  optimiser.step();
  scaler.update();
  assert.equal(await scaler.state(), { scale: 4, steps: 0 });
  for (const [i, parameter] of parameters.entries())
    assertBitEqual(await floats(parameter), before[i] as Float32Array, `parameter ${i}`);
  scaler.dispose();
  dispose({ parameters, optimiser });
});

arenas("memory goes back with the optimiser and the parameters", async () => {
  const on = new Gpu(gpu.device, { maxBindingBytes: MOST });
  dispose(await train(on, {}, 1));
  const before = liveBytes(on);
  dispose(await train(on, {}, 2));
  assert.is(liveBytes(on), before);
});

arenas.run();

const tied = suite("a table beyond a binding");

// The table and the logits lie in two chunks and more; with 8 KiB a chunk holds two rows of the logits.
const [V, C] = [901, 192];
const values = Stream.seed(3).normal(V * C, 0, 0.3);
const batch = tiedBatch(V, 200, 11);
const rows = [0, 1, 500, V - 1, batch.labels[0] as number, batch.ids[3] as number];
const expected = tiedReference(values, C, batch, rows);

for (const most of [Number.POSITIVE_INFINITY, 2 ** 19, 2 ** 13]) {
  tied(`a step with tied weights, bindings of ${most} bytes`, async () => {
    const on = new Gpu(gpu.device, { maxBindingBytes: most });
    const table = Parameter.from(on, values, [V, C]);
    if (most < 2 ** 20) assert.ok(table.array.storage.chunks.length > 1);
    const loss = await tiedStep(on, table, batch);
    assertClose([loss], [expected.loss], { atol: 2e-6, rtol: 1e-6, name: "loss" });
    assertRows(await floats(table.grad), C, rows, expected);
    table.dispose();
    table.grad = null;
  });
}

tied.run();
