// Sizes of real models beyond the largest binding of many adapters: the 206 MB table of GPT-2 medium's and RoBERTa-large's
// vocabulary trained with tied weights, and all of RoBERTa-large. Minutes, and up to 9 GB of memory.
import { freemem } from "node:os";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../src/array/index.ts";
import { crossEntropy, Parameter, Stream, tensor, tidy } from "../../src/autograd/index.ts";
import { parseRobertaConfig, RobertaForMaskedLM, robertaPositions } from "../../src/models/index.ts";
import { AdamW, clipGradNorm } from "../../src/optim/index.ts";
import { assertClose } from "../compare.ts";
import { gpu as openTestGpu } from "../device.ts";
import { adamwStep, ref } from "../reference/index.ts";
import { skipped } from "../skip.ts";
import { assertRows, tiedBatch, tiedReference, tiedStep } from "../tied-step.ts";

const device = (await openTestGpu()).device;
/** What lavapipe, and every device with default limits, binds at once. */
const on = new Gpu(device, { maxBindingBytes: 128 * 2 ** 20 });
const large = suite("large models");

large("a table [50257, 1024]: forward, tied weights, backward, one step of AdamW", async () => {
  const [V, C] = [50_257, 1024];
  const values = Stream.seed(1).uniform(V * C, -0.3, 0.3);
  const table = Parameter.from(on, values, [V, C]);
  assert.is(table.array.storage.chunks.length, 2);
  const optimiser = new AdamW([table], { lr: 0.01, weightDecay: 0.1 });
  // 704 positions: the logits are 142 MB.
  const batch = tiedBatch(V, 704, 16);
  optimiser.zeroGrad();
  const loss = await tiedStep(on, table, batch);
  const rows = [0, 5, 32_767, 32_768, V - 1, batch.labels[0] as number, batch.labels[1] as number];
  const expected = tiedReference(values, C, batch, rows);
  assertClose([loss], [expected.loss], { atol: 2e-6, rtol: 1e-6, name: "loss" });
  const gradient = (await table.grad?.data()) as Float32Array;
  assertRows(gradient, C, rows, expected);
  optimiser.step();
  const moved = (await table.data()) as Float32Array;
  for (const row of rows) {
    const part = (all: Float32Array): Float32Array => all.subarray(row * C, (row + 1) * C);
    const state = { param: ref([C], part(values)), m: ref([C]), v: ref([C]) };
    const { param } = adamwStep(state, ref([C], part(gradient)), { step: 1, lr: 0.01, weightDecay: 0.1 });
    assertClose(part(moved), param.data, { atol: 1e-7, rtol: 1e-6, name: `row ${row}` });
  }
  optimiser.dispose();
  table.dispose();
});

/** RoBERTa-large, as published. */
const LARGE = parseRobertaConfig({
  model_type: "roberta",
  vocab_size: 50_265,
  hidden_size: 1024,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  intermediate_size: 4096,
  max_position_embeddings: 514,
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
});

const NEEDED = 9 * 2 ** 30;
const name =
  "RoBERTa-large with all 356 million parameters trained: a step lowers the loss as its gradient says";
if (freemem() < NEEDED) skipped(large, name, "less than 9 GiB of memory are free");
else large(name, trainLarge);

async function trainLarge(): Promise<void> {
  device.trim();
  const model = new RobertaForMaskedLM(on, LARGE);
  for (const [path, parameter] of model.namedParameters())
    if (parameter.decay) writeNormal(parameter, Stream.seed(2).fold(path));
  const optimiser = new AdamW(model.parameters(), { weightDecay: 0 });
  const { segments, length } = optimiser.arena;
  assert.ok(length > 355e6 && length < 357e6, `${length} elements`);
  assert.ok(segments.length >= 11, `${segments.length} segments`);
  assert.ok(segments.some(({ values }) => values.storage.chunks.length > 1));
  const ids = Int32Array.from({ length: 24 }, (_, i) => 5 + ((i * 7919) % 50_000));
  const tokens = [2, 12] as const;
  const input = {
    inputIds: tensor(on, ids, tokens),
    positionIds: tensor(on, robertaPositions(ids, tokens[1], LARGE), tokens),
    attentionMask: tensor(on, new Int32Array(24).fill(1), tokens),
    poolingWeights: null,
  };
  const labels = tensor(on, ids, tokens);
  const lossOf = (train: boolean) =>
    tidy(() => {
      const result = crossEntropy(model.forward(input), labels);
      if (train) result.backward();
      return result;
    });
  optimiser.zeroGrad();
  const before = await lossOf(true).item();
  assert.ok(Math.abs(before - Math.log(LARGE.vocab_size)) < 1, `the first loss is ${before}`);
  // The first step moves each element by lr g / (|g| + eps).
  let slope = 0;
  for (const { gradients } of segments)
    for (const g of await on.read(gradients)) slope += (g * g) / (Math.abs(g) + 1e-8);
  const lr = 5e-8;
  optimiser.step(lr);
  const after = await lossOf(false).item();
  assertClose([before - after], [lr * slope], { rtol: 0.03, name: "what the loss fell by" });
  const norm = await clipGradNorm(optimiser.arena, 1).item();
  assert.ok(norm > 0.1 && norm < 1000, `norm ${norm}`);
  optimiser.dispose();
  model.dispose();
  device.trim();
}

/** N(0, 0.02), from a block of numbers that is repeated: 356 million draws would take a minute. */
function writeNormal(parameter: Parameter, stream: Stream): void {
  const block = stream.normal(Math.min(parameter.size, 2 ** 16), 0, 0.02);
  const values = new Float32Array(parameter.size);
  for (let i = 0; i < values.length; i += block.length) values.set(block.subarray(0, values.length - i), i);
  parameter.write(values);
}

large.run();
