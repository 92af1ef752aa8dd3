// Numbers of parameters, counted from the objects that would be trained, saved and loaded.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { parseRobertaConfig, RobertaForSequenceClassification } from "../src/models/index.ts";
import { countParameters, Linear, LinearSite, OutputSite, type Site } from "../src/nn/index.ts";
import {
  type Adaptable,
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  adapter,
  houlsby,
  lora,
  type PeftMethod,
} from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const { params } = JSON.parse(readFileSync(new URL("golden/adamix_by_hand.json", import.meta.url), "utf8"));

/** The sites of a model without its weights: the linear layers are one and the same. */
function sitesOf(layers: number, channels: number): Adaptable {
  const square = new Linear(gpu, channels, channels, { bias: false });
  const sites = Array.from({ length: layers }, (_, layer): Site[] => [
    new LinearSite({ name: `layer.${layer}.attention.self.query`, layer }, square),
    new LinearSite({ name: `layer.${layer}.attention.self.value`, layer }, square),
    new OutputSite({ name: `layer.${layer}.attention.output`, layer, role: "attention" }, channels),
    new OutputSite({ name: `layer.${layer}.output`, layer, role: "feedForward" }, channels),
  ]).flat();
  square.dispose();
  return { sites: () => sites };
}

const large = sitesOf(24, 1024); // RoBERTa-large and GPT-2 medium
const base = sitesOf(12, 768); // BERT-base

const test = suite("numbers of parameters");

const cases: readonly [
  what: string,
  model: Adaptable,
  method: PeftMethod,
  training: number,
  merged: number,
][] = [
  ["AdaMix, RoBERTa-large r 16", large, adamixAdapter({ bottleneck: 16 }), 1_992_192, 811_392],
  ["… share none", large, adamixAdapter({ bottleneck: 16, share: "none" }), 3_245_568, 811_392],
  ["… share down", large, adamixAdapter({ bottleneck: 16, share: "down" }), 2_064_768, 811_392],
  ["AdaMix, BERT-base r 48", base, adamixAdapter({ bottleneck: 48 }), 2_223_360, 894_528],
  ["AdaMix, GPT-2 medium r 8 M 8", large, adamixAdapter({ bottleneck: 8, experts: 8 }), 1_795_584, 417_984],
  ["AdaMix LoRA, GPT-2 medium r 4 M 8", large, adamixLora({ rank: 4, experts: 8 }), 1_769_472, 393_216],
  [
    "AdaMix LoRA, share none",
    large,
    adamixLora({ rank: 1, share: "none" }),
    4 * 4 * 24 * 1024,
    4 * 24 * 1024,
  ],
  ["LoRA, GPT-2 medium r 4", large, lora({ rank: 4 }), 393_216, 393_216],
  ["LoRA, RoBERTa-large r 8", large, lora({ rank: 8 }), 786_432, 786_432],
  ["LoRA, BERT-base r 8", base, lora({ rank: 8 }), 294_912, 294_912],
  ["Houlsby, RoBERTa-large r 8", large, houlsby({ bottleneck: 8 }), 835_968, 835_968],
];

for (const [what, model, method, training, merged] of cases) {
  test(`${what}: ${training} in training, ${merged} merged`, () => {
    const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1), attached: false });
    const one = set.mergeExperts(model, Stream.seed(2));
    assert.is(countParameters(set.parameters()), training);
    assert.is(countParameters(one.parameters()), merged);
    one.dispose();
    set.dispose();
  });
}

for (const [key, expected] of Object.entries<number>(params["adapter_one_per_layer L(2dr+r+d)"])) {
  const [, layers, channels, bottleneck] = /^L(\d+) d(\d+) r(\d+)$/.exec(key)?.map(Number) ?? [];
  test(`adapter, one in each layer, ${key}: ${expected}`, () => {
    const model = layers === 24 && channels === 1024 ? large : base;
    const set = new AdaptationSet(gpu, model, adapter({ bottleneck: bottleneck ?? 0 }), {
      stream: Stream.seed(1),
    });
    assert.is(countParameters(set.parameters()), expected);
    set.dispose();
  });
}

test("RoBERTa-large: the model and its head, from one layer of it", () => {
  const sizes = { vocab_size: 50_265, max_position_embeddings: 514, num_hidden_layers: 24 };
  const small = { vocab_size: 3, max_position_embeddings: 5, num_hidden_layers: 1 };
  const config = parseRobertaConfig({
    model_type: "roberta",
    hidden_size: 1024,
    num_attention_heads: 16,
    intermediate_size: 4096,
    ...small,
  });
  const { roberta, classifier } = new RobertaForSequenceClassification(gpu, config);
  const head = countParameters(classifier.parameters());
  const layer = countParameters(roberta.encoder.layer.flatMap((one) => one.parameters()));
  const rows =
    sizes.vocab_size - small.vocab_size + sizes.max_position_embeddings - small.max_position_embeddings;
  const encoder = countParameters(roberta.parameters()) + (sizes.num_hidden_layers - 1) * layer + rows * 1024;
  assert.is(head, params.heads.C2);
  assert.is(encoder, params.totals["roberta-large no pooler"]);
  assert.is(encoder + head, params.totals["roberta-large+head C2"]);
  roberta.dispose();
  classifier.dispose();
});

test.run();
