// Causal language models in folders: saved and opened again, in halves, what is refused; GPT-2 medium's counts.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, tensor } from "../src/autograd/index.ts";
import { characterTokenizer } from "../src/data/index.ts";
import {
  type CausalLM,
  Gpt2LMHeadModel,
  generate,
  LlamaForCausalLM,
  parseGpt2Config,
  parseLlamaConfig,
} from "../src/models/index.ts";
import { countParameters, initNormal } from "../src/nn/index.ts";
import { loadModel, openCausalFolder, saveModel } from "../src/train/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const test = suite("causal models in folders");
const folder = scratchFolder();

const llama = {
  model_type: "llama",
  vocab_size: 23,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 40,
  rope_scaling: { rope_type: "linear", factor: 2 },
  attention_bias: true,
};
const gpt2 = { model_type: "gpt2", vocab_size: 23, n_positions: 40, n_embd: 16, n_layer: 2, n_head: 2 };

const MODELS: Readonly<Record<string, () => CausalLM>> = {
  llama: () => new LlamaForCausalLM(gpu, parseLlamaConfig(llama)),
  qwen2: () =>
    new LlamaForCausalLM(gpu, parseLlamaConfig({ ...llama, model_type: "qwen2", tie_word_embeddings: true })),
  gpt2: () => new Gpt2LMHeadModel(gpu, parseGpt2Config(gpt2)),
  "gpt2 with a head": () =>
    new Gpt2LMHeadModel(gpu, parseGpt2Config({ ...gpt2, tie_word_embeddings: false, lm_head_bias: true })),
};

const ids = Int32Array.of(3, 1, 4, 1, 5);
const inputOf = () => ({
  inputIds: tensor(gpu, ids, [1, 5]),
  positionIds: tensor(gpu, Int32Array.from(ids.keys()), [1, 5]),
  attentionMask: null,
});

for (const [name, make] of Object.entries(MODELS)) {
  test(`${name}: saved and opened again, the same bits; in halves the same texts for a while`, async () => {
    const model = make();
    for (const [key, parameter] of model.namedParameters())
      if (!/norm|ln_/.test(key)) initNormal(parameter, Stream.seed(4).fold(key), 0.3);
    const path = join(folder, name);
    await saveModel(path, model);
    const saved = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
    assert.equal(saved.architectures, [model.architecture]);
    assert.is(saved.model_type, name.split(" ")[0]);
    const { model: again, fresh } = await loadModel(gpu, path, { task: "causal-lm" });
    assert.equal(fresh, []);
    assertBitEqual(await again.forward(inputOf()).data(), await model.forward(inputOf()).data());
    const before = liveBytes(gpu);
    gpu.device.ledger.resetPeaks();
    const { model: half } = await loadModel(gpu, path, { task: "causal-lm", dtype: "f16" });
    for (const [key, { dtype, shape, requiresGrad }] of half.namedParameters()) {
      assert.is(dtype, shape.length > 1 ? "f16" : "f32", key);
      if (shape.length > 1) assert.not.ok(requiresGrad, key);
    }
    const { peakBytes, liveBytes: bytes } = gpu.device.ledger.scopes().parameters ?? {};
    assert.is(peakBytes, bytes, "no f32 copy on the way");
    assert.ok(liveBytes(gpu) > before);
    const [exact, rounded] = [
      await generate(model, [ids], { maxNew: 3 }),
      await generate(half, [ids], { maxNew: 3 }),
    ];
    assert.equal(rounded, exact);
    for (const one of [model, again, half]) one.dispose();
  });
}

test("a folder without a tokenizer, or of an encoder, is refused", async () => {
  const refused = async (path: string, message: RegExp): Promise<void> => {
    const error = await openCausalFolder(path).then(
      () => new Error("no error"),
      (reason: Error) => reason,
    );
    assert.match(error.message, message);
  };
  await refused(join(folder, "gpt2"), /model: no tokenizer in/);
  await refused(
    "embedded",
    /model: roberta has no model for causal-lm; it has sequence-classification, masked-lm, and gpt2/,
  );
  const path = join(folder, "gpt2", "config.json");
  writeFileSync(path, JSON.stringify({ ...gpt2, architectures: ["GPT2ForSequenceClassification"] }));
  await refused(
    join(folder, "gpt2"),
    /architectures is \["GPT2ForSequenceClassification"\]; supported: GPT2Model, /,
  );
});

test("characters as tokens", () => {
  const tokenizer = characterTokenizer();
  const text = 'One day,\n\tLily\'s "Zoo".';
  assert.is(tokenizer.decode(tokenizer.encode(text)), text);
  assert.equal([...tokenizer.encode("\t\n Za~")], [0, 1, 2, 60, 66, 2]);
  assert.is(tokenizer.decode([61, 168]), "\uFFFD\uFFFD");
  assert.is(tokenizer.vocabSize, 169);
});

test("GPT-2 medium has 354,823,168 parameters, which take no memory before they are used", () => {
  const config = { vocab_size: 50_257, n_positions: 1024, n_embd: 1024, n_layer: 24, n_head: 16 };
  const medium = new Gpt2LMHeadModel(gpu, parseGpt2Config({ model_type: "gpt2", ...config }));
  assert.is(countParameters(medium.parameters()), 354_823_168);
  medium.dispose();
});

test.run();
