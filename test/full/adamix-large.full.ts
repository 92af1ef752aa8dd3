// Models of the sizes that the paper fine-tunes, with random weights: saved, loaded, and one step of AdaMix with
// both passes in one batch. Needs about 3 GB of memory, where the device's memory is the host's, and 1.5 GB of disk.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, type Tensor, tensor, tidy } from "../../src/autograd/index.ts";
import { memory } from "../../src/gpu/index.ts";
import {
  causalLoss,
  causalPositions,
  Gpt2LMHeadModel,
  parseGpt2Config,
  parseRobertaConfig,
  RobertaForSequenceClassification,
} from "../../src/models/index.ts";
import { initNormal, type Module } from "../../src/nn/index.ts";
import { AdamW, clipGradNorm } from "../../src/optim/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  type PeftMethod,
  twoPassLoss,
  uniformRouter,
} from "../../src/peft/index.ts";
import { loadModel, saveModel } from "../../src/train/index.ts";
import { gpu as testGpu } from "../device.ts";
import { skipped } from "../skip.ts";

const gpu = await testGpu();
const test = suite("AdaMix on models of the paper's sizes");
const GB = 1e9;
const MOST_BYTES = 3 * GB;
const stream = Stream.seed(1);

/** The most memory that this process held since the last call with `reset`. */
function peakBytes({ reset = false } = {}): number {
  if (reset) writeFileSync("/proc/self/clear_refs", "5");
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

/** One step of what is trained, with a loss of its own for each model: it must be finite and move every expert drawn. */
async function expectStep(
  model: Module & { sites(): ReturnType<Gpt2LMHeadModel["sites"]> },
  method: PeftMethod,
  head: string[],
  lossOf: () => Tensor,
): Promise<void> {
  model.setRequiresGrad(false);
  for (const [name, parameter] of model.namedParameters())
    parameter.requiresGrad = head.some((start) => name.startsWith(start));
  const set = new AdaptationSet(gpu, model, method, { stream: stream.fold("adamix") });
  const trained = [...model.parameters().filter((p) => p.requiresGrad), ...set.parameters()];
  const optimiser = new AdamW(trained, { lr: 1e-3 });
  const router = uniformRouter(stream);
  const losses: number[] = [];
  for (let step = 0; step < 3; step++) {
    set.routes.draw(router, { step, passes: 2 });
    optimiser.zeroGrad();
    const loss = tidy(lossOf);
    loss.backward();
    clipGradNorm(optimiser.arena, 1);
    optimiser.step();
    losses.push((await loss.data())[0] as number);
    loss.dispose();
  }
  assert.ok(losses.every(Number.isFinite), `losses ${losses}`);
  assert.ok(new Set(losses).size === 3, `losses that do not change: ${losses}`);
  const { peakBytes: device } = memory(gpu);
  console.log(
    `  losses ${losses.map((x) => x.toFixed(4)).join(", ")}; the device held up to ${(device / GB).toFixed(2)} GB`,
  );
  set.dispose();
}

async function saveLoadStep<M extends Module>(
  make: () => M,
  load: (folder: string) => Promise<M>,
  step: (model: M) => Promise<void>,
): Promise<void> {
  peakBytes({ reset: true });
  const folder = mkdtempSync(join(tmpdir(), "adamix-large-"));
  try {
    const random = make();
    for (const [name, parameter] of random.namedParameters())
      if (parameter.shape.length === 2) initNormal(parameter, stream.fold(name), 0.02);
    await saveModel(folder, random as never);
    random.dispose();
    gpu.device.trim();
    await gpu.device.recorder.throttle();
    const model = await load(folder);
    await step(model);
    model.dispose();
    gpu.device.trim();
    const peak = peakBytes();
    console.log(`  at most ${(peak / GB).toFixed(2)} GB resident`);
    assert.ok(peak < MOST_BYTES, `${(peak / GB).toFixed(2)} GB, allowed are ${MOST_BYTES / GB}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const [B, T] = [2, 32];

function tokens(vocabulary: number): Int32Array<ArrayBuffer> {
  const row = Int32Array.from(
    { length: B * T },
    (_, i) => stream.fold("ids").integer(vocabulary - 10, i) + 5,
  );
  return Int32Array.from([...row, ...row]); // both passes
}

const roberta = parseRobertaConfig({
  model_type: "roberta",
  vocab_size: 50_265,
  hidden_size: 1024,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  intermediate_size: 4096,
  max_position_embeddings: 514,
});

async function robertaLarge(): Promise<void> {
  await saveLoadStep(
    () => new RobertaForSequenceClassification(gpu, roberta),
    async (folder) =>
      (await loadModel(gpu, folder, { task: "sequence-classification" }))
        .model as RobertaForSequenceClassification,
    async (model) => {
      const ids = tokens(roberta.vocab_size);
      const shape = [2 * B, T];
      const input = {
        inputIds: tensor(gpu, ids, shape),
        positionIds: tensor(gpu, model.positionsOf(ids, T), shape),
        attentionMask: tensor(gpu, new Int32Array(2 * B * T).fill(1), shape),
        poolingWeights: null,
      };
      const labels = tensor(
        gpu,
        Int32Array.from({ length: B }, (_, i) => i % 2),
      );
      await expectStep(
        model,
        adamixAdapter({ bottleneck: 16 }),
        ["classifier."],
        () => twoPassLoss(model.forward(input), labels).loss,
      );
      for (const slot of [input.inputIds, input.positionIds, input.attentionMask, labels]) slot.dispose();
    },
  );
}

const gpt2 = parseGpt2Config({
  model_type: "gpt2",
  vocab_size: 50_257,
  n_positions: 1024,
  n_embd: 1024,
  n_layer: 24,
  n_head: 16,
});

async function gpt2Medium(): Promise<void> {
  await saveLoadStep(
    () => new Gpt2LMHeadModel(gpu, gpt2),
    async (folder) => (await loadModel(gpu, folder, { task: "causal-lm" })).model as Gpt2LMHeadModel,
    async (model) => {
      const ids = tokens(gpt2.vocab_size);
      const shape = [2 * B, T];
      const mask = new Int32Array(2 * B * T).fill(1);
      const input = {
        inputIds: tensor(gpu, ids, shape),
        positionIds: tensor(gpu, causalPositions(mask, T, gpt2.n_positions), shape),
        attentionMask: null,
      };
      const next = tensor(
        gpu,
        Int32Array.from(ids, (_, i) => ids[i + 1] ?? 0),
        shape,
      );
      const counted = tensor(
        gpu,
        Int32Array.from(mask, (_, i) => ((i + 1) % T === 0 ? 0 : 1)),
        shape,
      );
      await expectStep(
        model,
        adamixLora({ rank: 4, alpha: 32, experts: 8, targets: ["query", "value"] }),
        [],
        () => causalLoss(model.forward(input), next, counted),
      );
      for (const slot of [input.inputIds, input.positionIds, next, counted]) slot.dispose();
    },
  );
}

for (const [name, run] of [
  ["RoBERTa-large with adapters: three steps in less than 3 GB", robertaLarge],
  ["GPT-2 medium with LoRA: three steps in less than 3 GB", gpt2Medium],
] as const) {
  if (process.platform !== "linux") skipped(test, name, "memory is read from /proc");
  else test(name, run);
}

test.run();
