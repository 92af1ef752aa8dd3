// What methods cost on published models: the paper's counts, and a step on paper against the same step on a device.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import { Stream } from "../src/autograd/index.ts";
import { Device } from "../src/gpu/index.ts";
import { parseRobertaConfig, publishedSize, RobertaForSequenceClassification } from "../src/models/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  adapter,
  bitFit,
  houlsby,
  lora,
  type PeftMethod,
} from "../src/peft/index.ts";
import { costOfStep } from "../src/train/accounting.ts";
import { costOf, parametersOf } from "../src/train/index.ts";

const test = suite("accounting");

type Row = readonly [model: string, what: string, method: PeftMethod, training: number, merged: number];
/** Everything that the paper counts. */
const ROWS: readonly Row[] = [
  ["roberta-large", "AdaMix r 16", adamixAdapter({ bottleneck: 16 }), 1_992_192, 811_392],
  ["roberta-large", "share none", adamixAdapter({ bottleneck: 16, share: "none" }), 3_245_568, 811_392],
  ["roberta-large", "share down", adamixAdapter({ bottleneck: 16, share: "down" }), 2_064_768, 811_392],
  ["bert-base-uncased", "AdaMix r 48", adamixAdapter({ bottleneck: 48 }), 2_223_360, 894_528],
  ["gpt2-medium", "AdaMix r 8 M 8", adamixAdapter({ bottleneck: 8, experts: 8 }), 1_795_584, 417_984],
  ["gpt2-medium", "LoRA r 4", lora({ rank: 4 }), 393_216, 393_216],
  ["gpt2-medium", "AdaMix LoRA M 8", adamixLora({ rank: 4, experts: 8 }), 1_769_472, 393_216],
  ["roberta-large", "LoRA r 8", lora({ rank: 8 }), 786_432, 786_432],
  ["bert-base-uncased", "LoRA r 8", lora({ rank: 8 }), 294_912, 294_912],
  ["roberta-large", "Houlsby r 8", houlsby({ bottleneck: 8 }), 835_968, 835_968],
  ["bert-base-uncased", "BitFit", bitFit(), 102_912, 102_912],
];
/** Without a classification head. */
const TOTALS: Readonly<Record<string, number>> = {
  "gpt2-medium": 354_823_168,
  "bert-base-uncased": 109_482_240,
  "roberta-large": 354_310_144,
};

for (const [model, what, method, training, merged] of ROWS) {
  test(`${model}, ${what}: ${training} in training, ${merged} merged`, () => {
    const counts = parametersOf(publishedSize(model), method);
    assert.equal([counts.training, counts.merged, counts.base], [training, merged, TOTALS[model]]);
  });
}

test("RoBERTa-large, AdaMix: bytes as saved, head apart, two passes cost twice the products", async () => {
  const settings = { batchSize: 2, length: 16 };
  const large = await costOf(
    publishedSize("FacebookAI/roberta-large"),
    adamixAdapter({ bottleneck: 16 }),
    settings,
  );
  assert.equal(large.mergedBytes, { f32: 3_245_568, f16: 1_622_784 });
  assert.is(large.parameters.head, 1_051_650);
  const config = { ...publishedSize("roberta-large"), num_hidden_layers: 2 };
  const mixture = await costOf(config, adamixAdapter({ bottleneck: 16 }), settings);
  const plain = await costOf(config, adapter({ bottleneck: 16 }), settings);
  const ratio = mixture.step.flops / plain.step.flops;
  assert.ok(Math.abs(ratio - 2) < 0.02, `${ratio}`);
  const half = await costOf(config, adapter({ bottleneck: 16 }), { ...settings, dtype: "f16" });
  assert.ok(half.step.baseBytes < 0.52 * plain.step.baseBytes);
  assert.ok(half.step.peakBytes < plain.step.peakBytes && plain.step.peakBytes < mixture.step.peakBytes);
});

const TINY = {
  model_type: "roberta",
  vocab_size: 40,
  hidden_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 36,
  max_position_embeddings: 20,
};
const STEP = { batchSize: 3, length: 7 };

test("head alone: the products are those of the formulas", async () => {
  const { step } = await costOf(TINY, null, { ...STEP, labels: 3 });
  const [B, T, C, F, layers, classes] = [3, 7, 24, 36, 2, 3];
  const layer = 2 * B * T * (4 * C * C + 2 * C * F) + 4 * B * T * T * C;
  const forward = layers * layer + 2 * B * C * (C + classes);
  // Of the head: the gradient of each weight, and of the last input.
  const backward = 2 * B * C * (C + classes) + 2 * B * C * classes;
  assert.is(step.flops, forward + backward);
});

test("a step on paper takes the memory and the products that it takes on a device", async () => {
  const measured = async (device: Device): Promise<{ flops: number; peakBytes: number }> => {
    const gpu = new Gpu(device, { kernels: "hardware" });
    const model = new RobertaForSequenceClassification(gpu, parseRobertaConfig(TINY));
    model.setRequiresGrad(false);
    model.head.setRequiresGrad(true);
    const set = new AdaptationSet(gpu, model, adamixAdapter({ bottleneck: 3 }), { stream: Stream.seed(0) });
    const cost = await costOfStep(gpu, model, set, STEP);
    await device.close();
    return cost;
  };
  assert.equal(await measured(Device.onPaper()), await measured(await Device.open()));
});

test("a language model: a step of fineTuneCausal, with no head beside", async () => {
  const config = { ...publishedSize("gpt2"), n_layer: 2, vocab_size: 500 };
  const { parameters, step } = await costOf(config, adamixLora({ rank: 4 }), { batchSize: 2, length: 10 });
  assert.equal([parameters.training, parameters.merged, parameters.head], [61_440, 24_576, 0]);
  const d = 768;
  // Both passes: blocks of all tokens, the vocabulary of the 5 that are learned; backward the same again, but for the
  // input of the first layer's queries, keys and values, below which nothing trains. LoRA and attention are the rest.
  const forward = 2 * (2 * 2 * 10 * 12 * d * d * 2 + 2 * 2 * 5 * 500 * d);
  const share = step.flops / (2 * forward - 2 * (2 * 2 * 10 * 3 * d * d));
  assert.ok(share > 1 && share < 1.02, `${share}`);
});

test("an unknown name is refused with those that there are", () => {
  assert.throws(
    () => publishedSize("roberta-huge"),
    /"roberta-huge" is not one of bert-base-uncased, .*config\.json/,
  );
});

test.run();
