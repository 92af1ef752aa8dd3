// Layers that are run again in backward instead of kept: the same bits, in less memory.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { crossEntropy, Stream, tensor, tidy } from "../src/autograd/index.ts";
import { memory, resetPeakMemory } from "../src/gpu/index.ts";
import { causalPositions, Gpt2LMHeadModel, parseGpt2Config } from "../src/models/index.ts";
import { initNormal } from "../src/nn/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";

const test = suite("checkpointed layers");
const gpu = await testGpu();

const [B, T] = [4, 32];
const config = {
  model_type: "gpt2",
  vocab_size: 13,
  n_positions: T,
  n_embd: 32,
  n_layer: 6,
  n_head: 2,
  eos_token_id: 12,
};

/** Gradients of all parameters, and the peak of the step in bytes. */
async function step(checkpointLayers: boolean): Promise<{ gradients: ArrayLike<number>[]; peak: number }> {
  const model = new Gpt2LMHeadModel(gpu, parseGpt2Config(config));
  for (const [name, parameter] of model.namedParameters())
    initNormal(parameter, Stream.seed(2).fold(name), 0.3);
  const ids = Int32Array.from({ length: B * T }, (_, i) => (5 * i) % 13);
  const input = {
    inputIds: tensor(gpu, ids, [B, T]),
    positionIds: tensor(gpu, causalPositions(new Int32Array(B * T).fill(1), T, T), [B, T]),
    attentionMask: null,
  };
  const labels = tensor(gpu, ids, [B, T]);
  resetPeakMemory(gpu);
  const before = memory(gpu).liveBytes;
  tidy(() => {
    crossEntropy(model.forward(input, { checkpointLayers }), labels).backward();
  });
  const peak = memory(gpu).peakBytes - before;
  const gradients = await Promise.all(
    [...model.namedParameters()].map(async ([, { grad }]) => (await grad?.data()) ?? []),
  );
  for (const [, parameter] of model.namedParameters()) parameter.dispose();
  for (const used of [input.inputIds, input.positionIds, labels]) used.dispose();
  return { gradients, peak };
}

test("backward gives the same bits, and the peak is lower", async () => {
  const [kept, again] = [await step(false), await step(true)];
  assert.is(again.gradients.length, kept.gradients.length);
  for (const [i, gradient] of again.gradients.entries())
    assertBitEqual(gradient as Float32Array, kept.gradients[i] as Float32Array, `gradient ${i}`);
  assert.ok(again.peak < 0.7 * kept.peak, `${again.peak} bytes against ${kept.peak}`);
});

test.run();
