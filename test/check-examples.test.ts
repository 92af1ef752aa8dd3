// What a model has no embeddings for is refused at every entry, before anything runs: on the device it would be NaN.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { collate, type Encoded, PackedTexts } from "../src/data/index.ts";
import {
  BertForSequenceClassification,
  Gpt2LMHeadModel,
  parseBertConfig,
  parseGpt2Config,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
} from "../src/models/index.ts";
import {
  Adapters,
  BatchSlots,
  evaluateCausalLm,
  evaluateMaskedLm,
  expectedCalibrationError,
  fineTune,
  infer,
  predict,
  predictRows,
  pretrainCausalLm,
  pretrainMaskedLm,
  scoreLogits,
  scoreTask,
} from "../src/train/index.ts";
import { gpu as testGpu } from "./device.ts";
import { tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const checks = suite("examples at the door");

const ids = (...values: number[]): Encoded => ({ ids: Int32Array.from(values), label: 0 });
const good = ids(1, 2, 3);
const training = { steps: 1, batchSize: 1, lr: 0, seed: 1 };
const config = tinyConfig();
const V = config.vocab_size;
const classifier = new RobertaForSequenceClassification(gpu, config);

/** The message of what a call throws or rejects with; nothing was recorded for it. */
async function messageOf(call: () => unknown): Promise<string> {
  const before = gpu.device.statistics().dispatches;
  const message = await (async () => call())().then(
    () => "no error",
    (error: Error) => error.message,
  );
  assert.is(gpu.device.statistics().dispatches, before, `something ran before "${message}"`);
  return message;
}

checks("ids beyond the vocabulary, at every entry of an encoder", async () => {
  const examples = [good, ids(1, V, 2)];
  const wrong = `example 1 has the id ${V} at place 1, not one of 0 .. ${V - 1} of the vocabulary`;
  const masked = new RobertaForMaskedLM(gpu, config);
  const masking = { maskId: 3, vocabSize: V, specialIds: [0, 1, 2], seed: 1 };
  const adapters = new Adapters(gpu, classifier);
  const stream = Stream.seed(1);
  const entries: Readonly<Record<string, () => unknown>> = {
    fineTune: () => fineTune(gpu, classifier, null, { ...training, train: examples }),
    predict: () => predict(gpu, classifier, examples),
    predictRows: () => predictRows(gpu, adapters, examples, [null, null]),
    evaluateMaskedLm: () => evaluateMaskedLm(masked, examples, masking),
  };
  for (const [name, call] of Object.entries(entries)) assert.is(await messageOf(call), `${name}: ${wrong}`);
  assert.is(await messageOf(() => infer(gpu, classifier, null, examples, { stream })), `predict: ${wrong}`);
  assert.is(await messageOf(() => predict(gpu, classifier, [ids(-1)])), wrongId("predict: example", -1, 0));
  masked.dispose();
});

checks("ids that only a batch shows: its padding, its masks", async () => {
  const slots = new BatchSlots(gpu, classifier);
  const batch = collate([good, ids(1)], [0, 1], { padId: V + 2, multiple: 1 });
  assert.is(await messageOf(() => slots.load(batch)), wrongId("batch: row", V + 2, 1, 1));
  slots.dispose();
  const masking = { maskId: V, vocabSize: V, specialIds: [0, 1, 2], rate: 1 };
  const options = { config, lines: [ids(5, 6, 7)], masking, warmupSteps: 0, weightDecay: 0, ...training };
  const message = await pretrainMaskedLm(gpu, options).catch((error: Error) => error.message);
  assert.match(String(message), new RegExp(`^batch: row 0 has the id ${V} at place \\d`));
});

checks("texts longer than the positions, with none of their tokens, types that there are not", async () => {
  const bert = new BertForSequenceClassification(
    gpu,
    parseBertConfig({
      model_type: "bert",
      vocab_size: 9,
      hidden_size: 4,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      intermediate_size: 4,
      max_position_embeddings: 5,
    }),
  );
  const of = (...examples: Encoded[]) => messageOf(() => predict(gpu, bert, examples));
  assert.is(
    await of(good, ids(1, 2, 3, 4, 5, 6)),
    "predict: example 1: bert: a sequence of at least 6 tokens; the model has positions for 5 (truncate to that)",
  );
  assert.is(await of(good, ids()), "predict: example 1 has no token");
  assert.is(
    await of({ ...good, types: Int32Array.of(0, 2, 1) }),
    "predict: example 0 has a token of type 2; the model has 2 (0 .. 1)",
  );
  assert.is(
    await of({ ...good, types: Int32Array.of(0) }),
    "predict: example 0 has 3 tokens and 1 token types",
  );
  bert.dispose();
});

checks("packed rows: ids and positions, in training and in scoring", async () => {
  const model = new Gpt2LMHeadModel(
    gpu,
    parseGpt2Config({ model_type: "gpt2", vocab_size: 9, n_embd: 4, n_layer: 1, n_head: 1, n_positions: 4 }),
  );
  const options = { ...training, warmupSteps: 0, weightDecay: 0 };
  const beyond = new PackedTexts([[1, 2, 3, 9, 4]], { length: 3, endId: 0 });
  const wrong = "packing: row 1 has the id 9 at place 1, not one of 0 .. 8 of the vocabulary";
  assert.is(await messageOf(() => pretrainCausalLm(gpu, model, { ...options, rows: beyond })), wrong);
  assert.is(await messageOf(() => evaluateCausalLm(model, beyond)), wrong);
  const long = new PackedTexts([[1, 2, 3, 4, 5]], { length: 5, endId: 0 });
  const tooLong = "pretrain: rows of 5 tokens; the model has positions for 4 (pack shorter rows)";
  assert.is(await messageOf(() => evaluateCausalLm(model, long)), tooLong);
  model.dispose();
});

checks("labels beyond the classes, and labels that are not one for each row, are not scored", async () => {
  const logits = Float32Array.of(1, 2, 3, 4);
  const metrics = { metrics: ["accuracy"], regression: false } as const;
  for (const score of [
    (labels: number[]) => scoreLogits(logits, labels),
    (labels: number[]) => scoreTask(metrics, [logits], labels),
    (labels: number[]) => expectedCalibrationError(logits, labels),
  ]) {
    assert.is(await messageOf(() => score([0, 2])), "scores: example 1 has the label 2, not one of 0 .. 1");
    assert.is(
      await messageOf(() => score([Number.NaN, 1])),
      "scores: example 0 has the label NaN, not one of 0 .. 1",
    );
    assert.throws(
      () => score([0, 1, 1]),
      "scores: 4 outputs for 3 labels; expected a row [classes] for each",
    );
    assert.is(
      await messageOf(() => score([])),
      "scores: 4 outputs for 0 labels; expected a row [classes] for each",
    );
  }
});

function wrongId(what: string, id: number, place: number, row = 0): string {
  return `${what} ${row} has the id ${id} at place ${place}, not one of 0 .. ${V - 1} of the vocabulary`;
}

checks.run();
