// Fine-tuning and prediction on encoders of either family: token types, regression, tokenizers by a folder's files.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import { type Encoded, mergesTxt, trainBpe, vocabJson } from "../src/data/index.ts";
import { BertForSequenceClassification, parseBertConfig } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { AdaptationSet, adamixAdapter, taskLoss, twoPassLoss } from "../src/peft/index.ts";
import {
  BatchSlots,
  encodeFor,
  fineTune,
  folderTokenizer,
  loadAdapter,
  loadClassifier,
  openPretrained,
  predict,
  saveAdapter,
  saveModel,
} from "../src/train/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const scratch = mkdtempSync(join(tmpdir(), "adamix-encoders-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

const WORDS = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "[MASK]",
  "good",
  "bad",
  "soup",
  "was",
  "the",
  "very",
  "##ly",
  ".",
];
const config = parseBertConfig({
  model_type: "bert",
  vocab_size: WORDS.length,
  hidden_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  intermediate_size: 20,
  max_position_embeddings: 16,
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
});

/** A folder with a random BERT and its vocab.txt. */
async function bertFolder(name: string, settings?: object): Promise<string> {
  const folder = join(scratch, name);
  const model = new BertForSequenceClassification(gpu, config);
  initBertWeights(model, Stream.seed(4), 0.3);
  await saveModel(folder, model);
  model.dispose();
  writeFileSync(join(folder, "vocab.txt"), `${WORDS.join("\n")}\n`);
  if (settings) writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(settings));
  return folder;
}

const training = suite("BERT in training");
const folder = await bertFolder("bert");

training("texts and pairs get token types; positions and pooler are the model's", async () => {
  const source = await openPretrained(folder);
  assert.is(source.longest, 16);
  const { ids, types } = encodeFor(source, "The soup", "was bad.");
  assert.equal([...ids], [2, 9, 7, 3, 8, 6, 12, 3]);
  assert.equal([...(types ?? [])], [0, 0, 0, 0, 1, 1, 1, 1]);
});

training("a batch without types gets zeros, one with types beyond the model's is refused", async () => {
  const model = new BertForSequenceClassification(gpu, config);
  const slots = new BatchSlots(gpu, model);
  const batch = {
    inputIds: Int32Array.of(2, 5, 3, 0),
    attentionMask: Int32Array.of(1, 1, 1, 0),
    typeIds: null,
    labels: null,
    targets: null,
    size: 1,
    length: 4,
    indices: Int32Array.of(0),
    valid: 1,
  };
  const { input } = slots.load(batch);
  const types = (await input.tokenTypeIds?.data()) ?? [];
  assert.equal([...types], [0, 0, 0, 0]);
  assert.equal([...(await input.positionIds.data())], [0, 1, 2, 3]);
  assert.throws(
    () => slots.load({ ...batch, typeIds: Int32Array.of(0, 0, 2, 0) }),
    /batch: a token of type 2; the model has 2 \(0 \.\. 1\)/,
  );
  slots.dispose();
  model.dispose();
});

training(
  "a mixture learns which word decides, in f32 and on an encoder in f16; saved, it predicts the same",
  async () => {
    const source = await openPretrained(folder);
    const texts = ["the soup was good", "the soup was bad", "very good", "very bad", "good .", "bad ."];
    const train: Encoded[] = texts.map((text, i) => ({ ...encodeFor(source, text), label: i % 2 }));
    for (const dtype of ["f32", "f16"] as const) {
      const options = { labels: ["good", "bad"], seed: 1, dtype };
      const model = await loadClassifier(gpu, source, options);
      assert.equal(
        model.parameters().filter(({ requiresGrad }) => requiresGrad).length,
        2,
        "the classifier alone trains; the pretrained pooler stays",
      );
      const set = new AdaptationSet(gpu, model, adamixAdapter({ bottleneck: 4, experts: 2 }), {
        stream: Stream.seed(1),
      });
      const losses: number[] = [];
      const { optimiser } = await fineTune(gpu, model, set, {
        train,
        steps: 30,
        batchSize: 6,
        lr: 0.02,
        seed: 1,
        onStep: ({ loss }) => losses.push(loss),
      });
      assert.ok((losses.at(-1) ?? 1) < 0.5 * (losses[0] ?? 0), `${dtype}: ${losses[0]} -> ${losses.at(-1)}`);
      const merged = set.mergeExperts(model, Stream.seed(2));
      set.detach();
      merged.attach();
      const logits = await predict(gpu, model, train);
      const saved = join(scratch, `adapter-${dtype}`);
      await saveAdapter(saved, model, merged, { base: folder, labels: options.labels });
      const other = await loadClassifier(gpu, source, { ...options, seed: 9 });
      loadAdapter(gpu, other, saved);
      assertBitEqual(await predict(gpu, other, train), logits, "logits of the loaded adapter");
      optimiser.dispose();
      for (const one of [set, merged, model, other]) one.dispose();
    }
  },
);

training(
  "one label is a regression: the loss is the mean squared error, and training lowers it",
  async () => {
    const source = await openPretrained(folder);
    const train: Encoded[] = ["good", "bad", "very good", "very bad"].map((text, i) => ({
      ...encodeFor(source, text),
      label: [1.5, -1, 2.5, -2][i] ?? 0,
    }));
    const model = await loadClassifier(gpu, source, { labels: ["score"], seed: 1 });
    model.setRequiresGrad(true);
    const before = await predict(gpu, model, train);
    const losses: number[] = [];
    const { optimiser } = await fineTune(gpu, model, null, {
      train,
      steps: 60,
      batchSize: 4,
      lr: 0.01,
      warmupSteps: 0,
      seed: 1,
      onStep: ({ loss }) => losses.push(loss),
    });
    const mean = train.reduce((sum, { label }, i) => sum + ((before[i] ?? 0) - (label ?? 0)) ** 2, 0) / 4;
    assert.ok(Math.abs((losses[0] ?? 0) - mean) < 1e-5 * mean, `${losses[0]} vs ${mean}`);
    assert.ok((losses.at(-1) ?? mean) < 0.2 * mean, `${mean} -> ${losses.at(-1)}`);
    const unlabelled = {
      train: [{ ids: Int32Array.of(2, 3), label: null }],
      steps: 1,
      batchSize: 1,
      lr: 1,
      seed: 1,
    };
    let message = "";
    await fineTune(gpu, model, null, unlabelled).catch((error: Error) => {
      message = error.message;
    });
    assert.is(message, "fineTune: example 0 has label null; a model with one label learns numbers");
    optimiser.dispose();
    model.dispose();
  },
);

const vector = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor =>
  tensor(gpu, Float32Array.from(values), shape);

training(
  "two passes of a regression: the consistency is 0, or the mean squared difference on request",
  async () => {
    const outputs = vector([1, 2, 3, 1.5, 2, 1], [6, 1]);
    const wanted = vector([1, 1, 1]);
    const plain = twoPassLoss(outputs, wanted);
    assert.ok(Math.abs((await plain.task.item()) - 5 / 3) < 1e-6);
    assert.is(await plain.consistency.item(), 0);
    const squared = twoPassLoss(outputs, wanted, { regression: "mse", weight: 0.5, taskPasses: "both" });
    assert.ok(Math.abs((await squared.consistency.item()) - 4.25 / 3) < 1e-6);
    assert.ok(Math.abs((await squared.loss.item()) - ((5 / 3 + 1.25 / 3) / 2 + 4.25 / 6)) < 1e-6);
    assert.throws(
      () => taskLoss(vector([1, 2], [1, 2]), vector([1])),
      /taskLoss: outputs \[1, 2\] for numbers \[1\]/,
    );
  },
);

training.run();

const tokenizers = suite("tokenizers of folders");

const trained = trainBpe(["the soup was good", "the soup was bad", "a very good soup"], { vocabSize: 300 });

function filesOf(name: string, files: Readonly<Record<string, string>>): string {
  const made = join(scratch, name);
  mkdirSync(made);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(made, file), text);
  return made;
}

tokenizers(
  "vocab.json and merges.txt: RoBERTa's template or none, and the space of tokenizer_config.json",
  () => {
    const files = { "vocab.json": vocabJson(trained), "merges.txt": mergesTxt(trained) };
    const bare = folderTokenizer(filesOf("bpe", files), "roberta");
    const spaced = bare.encode("soup");
    assert.is(spaced[0], bare.bosId);
    assert.is(
      bare.tokenOf(spaced[1] ?? -1)?.[0],
      "Ġ",
      "without a tokenizer_config.json words begin with a space",
    );
    const python = { ...files, "tokenizer_config.json": "{}" };
    const first = folderTokenizer(filesOf("bpe-python", python), "roberta").encode("soup")[1];
    assert.not.equal(bare.tokenOf(first ?? -1)?.[0], "Ġ", "Python adds none unless it is told to");
    const said = { ...files, "tokenizer_config.json": '{"add_prefix_space": true}' };
    assert.equal(folderTokenizer(filesOf("bpe-said", said), "roberta").encode("soup"), spaced);
  },
);

tokenizers("tokenizer.json comes first, vocab.txt follows do_lower_case", () => {
  const vocab = Object.fromEntries(WORDS.map((word, i) => [word, i]));
  const json = JSON.stringify({
    model: {
      type: "WordPiece",
      vocab,
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: { type: "BertProcessing", sep: ["[SEP]", 3], cls: ["[CLS]", 2] },
  });
  const text = `${WORDS.join("\n")}\n`;
  const both = folderTokenizer(filesOf("both", { "tokenizer.json": json, "vocab.txt": text }), "bert");
  assert.equal([...both.encode("Good soup")], [2, 1, 7, 3], "this tokenizer.json lowers nothing");
  const lower = folderTokenizer(filesOf("lower", { "vocab.txt": text }), "bert");
  assert.equal([...lower.encode("Good soup")], [2, 5, 7, 3]);
  const settings = '{"do_lower_case": false}';
  const cased = folderTokenizer(
    filesOf("cased", { "vocab.txt": text, "tokenizer_config.json": settings }),
    "bert",
  );
  assert.equal([...cased.encode("Good soup")], [2, 1, 7, 3]);
});

tokenizers("what is missing or not supported is said", () => {
  assert.throws(
    () => folderTokenizer(filesOf("nothing", {}), "bert"),
    /^model: no tokenizer in .*nothing \(expected tokenizer\.json, or vocab\.json with merges\.txt, or vocab\.txt/,
  );
  const odd = { "vocab.txt": WORDS.join("\n"), "tokenizer_config.json": '{"tokenize_chinese_chars": false}' };
  assert.throws(
    () => folderTokenizer(filesOf("odd", odd), "bert"),
    /tokenize_chinese_chars is false; supported: true/,
  );
});

tokenizers.run();
