// RoBERTa beyond its goldens: configs, positions, pooling, checkpoints, memory of frozen layers.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DrawSource, Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  FormatError,
  loadStateDict,
  readStateDict,
} from "../src/io/index.ts";
import {
  type EncoderInput,
  parseRobertaConfig,
  type RobertaConfig,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  robertaPositions,
} from "../src/models/index.ts";
import { initBertWeights, type Module } from "../src/nn/index.ts";
import { AdaptationSet, lora } from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { loadFixture } from "./fixtures.ts";
import { tinyConfig, tinyInput } from "./peft.table.ts";
import { type FixtureConfig, robertaConfigOf } from "./tiny-encoder.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array<ArrayBuffer>> =>
  (await x.data()) as Float32Array<ArrayBuffer>;
const initialised = <M extends Module>(model: M): M => {
  initBertWeights(model, Stream.seed(11), 0.3);
  return model;
};

const published = {
  model_type: "roberta",
  architectures: ["RobertaForMaskedLM"],
  hidden_act: "gelu",
  vocab_size: 50_265,
  hidden_size: 768,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  intermediate_size: 3072,
  max_position_embeddings: 514,
  type_vocab_size: 1,
};

const configs = suite("parseRobertaConfig");

configs("reads what is published, and fills in what is not said", () => {
  const config = parseRobertaConfig(published);
  assert.is(config.max_position_embeddings, 514);
  assert.equal(
    [config.pad_token_id, config.layer_norm_eps, config.hidden_dropout_prob, config.num_labels],
    [1, 1e-5, 0.1, 2],
  );
  assert.equal([config.classifier_pooling, config.id2label], ["cls", null]);
  const id2label = { 0: "no", 1: "maybe", 2: "yes" };
  assert.is(parseRobertaConfig({ ...published, id2label }).num_labels, 3);
  assert.is(parseRobertaConfig(published, { num_labels: 5 }).num_labels, 5);
});

const without = (name: string): object =>
  Object.fromEntries(Object.entries(published).filter(([key]) => key !== name));
const refused: readonly [json: unknown, message: RegExp][] = [
  [null, /^config: not a JSON object$/],
  [without("model_type"), /^config: no "model_type"; supported: "roberta"$/],
  [{ ...published, model_type: null }, /^config: no "model_type"; supported: "roberta"$/],
  [{ ...published, model_type: "bert" }, /^config: model_type is "bert"; supported: "roberta"$/],
  [{ ...published, hidden_act: "mish" }, /^config: hidden_act is "mish"; supported: "gelu", "gelu_new", /],
  [{ ...published, pruned_heads: { 3: [1] } }, /^config: pruned_heads names layers 3; supported: \{\}$/],
  [{ ...published, classifier_dropout: 1 }, /^config: classifier_dropout is 1, expected a share p/],
  [
    { ...published, problem_type: "multi_label_classification" },
    /problem_type is "multi_label_classification" with 2 labels; supported: "single_label_classification"$/,
  ],
  [
    { ...published, problem_type: "single_label_classification", num_labels: 1 },
    /problem_type is "single_label_classification" with 1 label; supported: "regression"$/,
  ],
  [{ ...published, position_embedding_type: "relative_key" }, /position_embedding_type is "relative_key"/],
  [{ ...published, is_decoder: true }, /is_decoder is true; supported: false/],
  [{ ...published, classifier_pooling: "max" }, /classifier_pooling is "max"; supported: "cls", "mean"/],
  [
    without("intermediate_size"),
    /^config: intermediate_size is missing, expected a whole number of 1 or more$/,
  ],
  [{ ...published, hidden_size: "768" }, /^config: hidden_size is "768", expected a whole number/],
  [
    { ...published, num_hidden_layers: 0 },
    /^config: num_hidden_layers is 0, expected a whole number of 1 or more$/,
  ],
  [{ ...published, vocab_size: 3.5 }, /^config: vocab_size is 3.5/],
  [
    { ...published, hidden_dropout_prob: 1.5 },
    /^config: hidden_dropout_prob is 1.5, expected a share p, 0 <= p < 1$/,
  ],
  [{ ...published, layer_norm_eps: -1 }, /^config: layer_norm_eps is -1, expected a number above 0$/],
  [{ ...published, num_attention_heads: 7 }, /^config: hidden_size 768 does not split into 7 heads$/],
];
for (const [json, message] of refused) {
  configs(`refuses: ${message.source}`, () => {
    assert.throws(
      () => parseRobertaConfig(json),
      (error: unknown) => error instanceof FormatError && message.test(error.message),
    );
  });
}

configs("an override is checked like the file", () => {
  assert.throws(() => parseRobertaConfig(published, { num_labels: 0 }), /num_labels is 0/);
  assert.throws(
    () => parseRobertaConfig(published, { num_attention_heads: 5 }),
    /does not split into 5 heads/,
  );
});

configs.run();

const positions = suite("robertaPositions");
const config = tinyConfig(); // positions for 7 tokens

positions("tokens count from padding + 1, padding has its own position, wherever it is", () => {
  const ids = Int32Array.of(0, 5, 2, 1, 1, 0, 1, 7, 2, 1, 1, 1, 1, 1, 1);
  assert.equal([...robertaPositions(ids, 5, config)], [2, 3, 4, 1, 1, 2, 1, 3, 4, 1, 1, 1, 1, 1, 1]);
});

positions("the longest sequence fits, one token more is refused with both numbers", () => {
  const longest = new Int32Array(7).fill(5);
  assert.equal([...robertaPositions(longest, 7, config)], [2, 3, 4, 5, 6, 7, 8]);
  const padded = Int32Array.of(...longest, 1, 1);
  assert.is(robertaPositions(padded, 9, config)[6], 8, "padding takes no position");
  const second = Int32Array.of(...longest, 1, ...longest, 5);
  assert.throws(
    () => robertaPositions(second, 8, config),
    /roberta: a sequence of 8 tokens; the model has positions for 7 \(truncate to that\)/,
  );
});

positions.run();

const forward = suite("RoBERTa");

/** weights · x + bias in float64. */
function affine(x: readonly number[], weight: ArrayLike<number>, bias: ArrayLike<number>): number[] {
  return Array.from(bias, (b, i) =>
    x.reduce((sum, value, j) => sum + value * (weight[i * x.length + j] ?? 0), b),
  );
}

/** 1 / length at tokens, 0 at padding: [B, 1, T]. */
async function meanWeights(input: EncoderInput): Promise<Tensor> {
  const [batch, length] = input.attentionMask.shape as [number, number];
  const mask = (await input.attentionMask.data()) as Int32Array;
  const weights = Float32Array.from(mask, (keep, i) => {
    const row = Math.floor(i / length) * length;
    return keep / mask.subarray(row, row + length).reduce((a, b) => a + b, 0);
  });
  return tensor(gpu, weights, [batch, 1, length]);
}

forward("a head that reads the mean meets a mean taken by hand", async () => {
  const model = initialised(
    new RobertaForSequenceClassification(gpu, { ...config, classifier_pooling: "mean" }),
  );
  const input = tinyInput();
  const poolingWeights = await meanWeights(input);
  const logits = await floats(model.forward({ ...input, poolingWeights }));
  const [batch, length, channels] = [3, 7, config.hidden_size];
  const hidden = await floats(model.roberta.forward(input));
  const { dense, out_proj } = model.classifier;
  const head = await Promise.all(
    [dense.weight, dense.bias, out_proj.weight, out_proj.bias].map((x) => floats(x as Tensor)),
  );
  const [w1, b1, w2, b2] = head as [Float32Array, Float32Array, Float32Array, Float32Array];
  const expected: number[] = [];
  for (let row = 0; row < batch; row++) {
    const tokens = length - row; // all rows but the first end in padding
    const mean = Array.from({ length: channels }, (_, c) => {
      let sum = 0;
      for (let t = 0; t < tokens; t++) sum += hidden[(row * length + t) * channels + c] ?? Number.NaN;
      return sum / tokens;
    });
    expected.push(...affine(affine(mean, w1, b1).map(Math.tanh), w2, b2));
  }
  assertClose(logits, expected, { atol: 2e-6, rtol: 1e-5, name: "logits" });
  assert.throws(() => model.forward(input), /roberta: a head that reads the mean needs poolingWeights/);
});

forward("padding changes nothing: a shorter batch gives the same logits", async () => {
  const model = initialised(new RobertaForSequenceClassification(gpu, config));
  const row = Int32Array.of(0, 5, 9, 2);
  const inputOfLength = (length: number): EncoderInput => {
    const ids = new Int32Array(length).fill(config.pad_token_id);
    ids.set(row);
    const shape = [1, length];
    return {
      inputIds: tensor(gpu, ids, shape),
      positionIds: tensor(gpu, robertaPositions(ids, length, config), shape),
      attentionMask: tensor(
        gpu,
        Int32Array.from(ids, (id) => (id === config.pad_token_id ? 0 : 1)),
        shape,
      ),
      poolingWeights: null,
    };
  };
  const short = await floats(model.forward(inputOfLength(4)));
  assertClose(await floats(model.forward(inputOfLength(7))), short, { atol: 2e-6, name: "logits" });
});

forward("dropout acts with a draw alone, and the same draw gives the same bits", async () => {
  const model = initialised(new RobertaForSequenceClassification(gpu, tinyConfig(0.3)));
  const input = tinyInput();
  const still = await floats(model.forward(input));
  assertBitEqual(await floats(model.forward(input)), still, "without a draw");
  const draw = (step: number): DrawSource => ({
    stream: Stream.seed(1).fold("forward"),
    clock: tensor(gpu, Uint32Array.of(1, step)),
    examples: 3,
  });
  const shaken = await floats(model.forward(input, { draw: draw(0) }));
  assert.not.equal([...shaken], [...still]);
  assertBitEqual(await floats(model.forward(input, { draw: draw(0) })), shaken, "with the same draw");
  assert.not.equal([...(await floats(model.forward(input, { draw: draw(1) })))], [...shaken]);
});

forward("logits of chosen positions are rows of all logits", async () => {
  const model = initialised(new RobertaForMaskedLM(gpu, config));
  const all = await floats(model.forward(tinyInput()));
  const places = [8, 0, 20];
  const chosen = model.forward(tinyInput(), {}, tensor(gpu, Int32Array.from(places)));
  assert.equal([...chosen.shape], [3, config.vocab_size]);
  const V = config.vocab_size;
  const expected = Float32Array.from(
    places.flatMap((place) => [...all.subarray(place * V, (place + 1) * V)]),
  );
  assertClose(await floats(chosen), expected, { atol: 1e-6, rtol: 1e-6, name: "logits" });
});

forward("input that is no batch is refused", () => {
  const model = new RobertaForSequenceClassification(gpu, config);
  const input = { ...tinyInput(), inputIds: tensor(gpu, Int32Array.of(0, 2)) };
  assert.throws(() => model.forward(input), /roberta: inputIds \[2\], expected \[batch, length\]/);
});

forward.run();

const checkpoints = suite("checkpoints of RoBERTa");

checkpoints("parameters have the published names", () => {
  const fixture = loadFixture<{ config: FixtureConfig }>("model_roberta");
  const c = robertaConfigOf(fixture.json.config);
  const published = fixture.keys("w/").map((key) => key.slice(2));
  const ours = [RobertaForSequenceClassification, RobertaForMaskedLM].flatMap((Model) => [
    ...new Model(gpu, c).stateDict().keys(),
  ]);
  assert.equal(
    [...new Set(ours)].sort(),
    published.filter((name) => name !== "lm_head.decoder.weight").sort(),
  );
});

checkpoints("another head's checkpoint is refused in one message, and nothing is written", async () => {
  const source = initialised(new RobertaForSequenceClassification(gpu, { ...config, num_labels: 2 }));
  const file = decodeSafetensors(encodeSafetensors(await readStateDict(source.namedParameters()))).tensors;
  const target = new RobertaForSequenceClassification(gpu, config);
  const message =
    "load other: 2 of other shape: classifier.out_proj.weight [2, 10] vs [3, 10] of the model, " +
    "classifier.out_proj.bias [2] vs [3] of the model";
  assert.throws(
    () => loadStateDict(target.stateDict(), file, { what: "other" }),
    (error: unknown) => error instanceof FormatError && error.message === message,
  );
  const words = await floats(target.roberta.embeddings.word_embeddings.weight);
  assert.ok(
    words.every((value) => value === 0),
    "the embeddings are still zeros",
  );
  const lm = new RobertaForMaskedLM(gpu, config);
  assert.throws(
    () => loadStateDict(lm.stateDict(), file, { what: "other" }),
    /^load other: 5 missing: lm_head\.dense\.weight, .*; 4 unexpected: classifier\.dense\.weight, .*out_proj\.bias$/,
  );
});

checkpoints("F16 weights load, and the logits are near those of F32", async () => {
  const source = initialised(new RobertaForSequenceClassification(gpu, config));
  const file = encodeSafetensors(await readStateDict(source.namedParameters(), "F16"));
  const halves = new RobertaForSequenceClassification(gpu, config);
  loadStateDict(halves.stateDict(), decodeSafetensors(file).tensors, { what: "halves" });
  const exact = await floats(source.forward(tinyInput()));
  const near = await floats(halves.forward(tinyInput()));
  assertClose(near, exact, { atol: 0.02, name: "logits" });
  assert.not.equal([...near], [...exact]);
});

checkpoints.run();

const memory = suite("memory of a forward pass");

/** Bytes that a forward pass leaves for backward, beside its logits. */
function savedBytes(prepare: (model: RobertaForSequenceClassification) => void): number {
  const wide: RobertaConfig = { ...config, hidden_size: 32, intermediate_size: 64 };
  const model = initialised(new RobertaForSequenceClassification(gpu, wide));
  prepare(model);
  const input = tinyInput();
  model.forward(input).dispose(); // what is made once is made
  const before = liveBytes(gpu);
  const logits = model.forward(input);
  const saved = liveBytes(gpu) - before;
  logits.dispose();
  assert.is(liveBytes(gpu), before, "bytes after the logits are disposed");
  model.dispose();
  return saved;
}

const ACTIVATION = 3 * 7 * 32 * 4; // [B, T, C] in bytes

memory("a frozen encoder below a trained head keeps no activation", () => {
  const frozen = savedBytes((model) => model.setRequiresGrad(false).classifier.setRequiresGrad(true));
  const trained = savedBytes(() => {});
  assert.ok(frozen < ACTIVATION, `${frozen} bytes kept, one activation is ${ACTIVATION}`);
  assert.ok(trained > 20 * ACTIVATION, `${trained} bytes kept by a trained encoder`);
});

memory("frozen layers with adaptations keep no input for a weight gradient", () => {
  const attach = (model: RobertaForSequenceClassification): void => {
    new AdaptationSet(gpu, model, lora({ rank: 1 }), { stream: Stream.seed(1) });
  };
  const frozen = savedBytes((model) => {
    model.setRequiresGrad(false);
    attach(model);
  });
  const trained = savedBytes(attach);
  // Each of the two layers: the inputs of the feed-forward part's two linear layers, C and 2C wide.
  assert.ok(trained - frozen >= 2 * 3 * ACTIVATION, `${trained} and ${frozen} bytes, ${ACTIVATION} each`);
});

memory("layers below the first adaptation keep nothing", () => {
  const from = (layer: number): number =>
    savedBytes((model) => {
      const targets = [`layer.${layer}.attention.self.query`];
      model.setRequiresGrad(false);
      new AdaptationSet(gpu, model, lora({ rank: 1, targets }), { stream: Stream.seed(1) });
    });
  const [first, last] = [from(0), from(1)];
  assert.ok(first - last > 4 * ACTIVATION, `${first} and ${last} bytes, an activation is ${ACTIVATION}`);
});

memory.run();
