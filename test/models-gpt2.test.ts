// GPT-2's configs and checkpoints: names, heads, what is refused; the checkpoints of llama2.c.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, tensor } from "../src/autograd/index.ts";
import { decodeSafetensors, encodeSafetensors, type RawTensor, readStateDict } from "../src/io/index.ts";
import {
  causalPositions,
  Gpt2LMHeadModel,
  gpt2FromTensors,
  parseGpt2Config,
  readLlama2c,
} from "../src/models/index.ts";
import { initNormal } from "../src/nn/index.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const test = suite("GPT-2");

const TINY = {
  model_type: "gpt2",
  vocab_size: 13,
  n_positions: 9,
  n_embd: 8,
  n_layer: 2,
  n_head: 2,
  eos_token_id: 12,
};

async function savedModel(
  change: object = {},
): Promise<{ model: Gpt2LMHeadModel; tensors: Map<string, RawTensor> }> {
  const model = new Gpt2LMHeadModel(gpu, parseGpt2Config({ ...TINY, ...change }));
  for (const [name, parameter] of model.namedParameters())
    initNormal(parameter, Stream.seed(2).fold(name), 0.3);
  const file = encodeSafetensors(await readStateDict(model.namedParameters()));
  return { model, tensors: decodeSafetensors(file).tensors };
}

const ids = Int32Array.of(1, 5, 12, 0, 7, 3);
const inputOf = () => ({
  inputIds: tensor(gpu, ids, [2, 3]),
  positionIds: tensor(gpu, causalPositions(new Int32Array(6).fill(1), 3, 9), [2, 3]),
  attentionMask: null,
});

test("a checkpoint has the published names and shapes", async () => {
  const { tensors, model } = await savedModel({ n_inner: 20 });
  assert.equal(
    [...tensors.keys()].filter((name) => !name.includes(".h.1.")),
    [
      "transformer.wte.weight",
      "transformer.wpe.weight",
      "transformer.h.0.ln_1.weight",
      "transformer.h.0.ln_1.bias",
      "transformer.h.0.attn.c_attn.weight",
      "transformer.h.0.attn.c_attn.bias",
      "transformer.h.0.attn.c_proj.weight",
      "transformer.h.0.attn.c_proj.bias",
      "transformer.h.0.ln_2.weight",
      "transformer.h.0.ln_2.bias",
      "transformer.h.0.mlp.c_fc.weight",
      "transformer.h.0.mlp.c_fc.bias",
      "transformer.h.0.mlp.c_proj.weight",
      "transformer.h.0.mlp.c_proj.bias",
      "transformer.ln_f.weight",
      "transformer.ln_f.bias",
    ],
  );
  const shapeOf = (name: string) => tensors.get(`transformer.h.0.${name}.weight`)?.shape;
  assert.equal(shapeOf("attn.c_attn"), [8, 24]);
  assert.equal(shapeOf("mlp.c_fc"), [8, 20]);
  assert.equal(shapeOf("mlp.c_proj"), [20, 8]);
  assert.equal(
    model
      .sites()
      .filter(({ layer }) => layer === 0)
      .map(({ name }) => name),
    [
      "transformer.h.0.attn.c_attn.query",
      "transformer.h.0.attn.c_attn.key",
      "transformer.h.0.attn.c_attn.value",
      "transformer.h.0.attn.keysValues",
      "transformer.h.0.attn.c_proj",
      "transformer.h.0.attn.output",
      "transformer.h.0.mlp.c_fc",
      "transformer.h.0.mlp.c_proj",
      "transformer.h.0.mlp.output",
    ],
  );
  model.dispose();
});

test("names without transformer., causal masks and a copy of the tied head: the same bits", async () => {
  const { model, tensors } = await savedModel();
  const expected = await model.forward(inputOf()).data();
  const old = new Map([...tensors].map(([name, raw]) => [name.replace("transformer.", ""), raw]));
  const words = old.get("wte.weight") as RawTensor;
  const mask: RawTensor = { dtype: "BOOL", shape: [1, 1, 9, 9], bytes: new Uint8Array(81) };
  for (const i of [0, 1]) {
    old.set(`h.${i}.attn.bias`, mask);
    old.set(`h.${i}.attn.masked_bias`, { dtype: "F32", shape: [], bytes: new Uint8Array(4) });
  }
  old.set("lm_head.weight", words);
  const loaded = gpt2FromTensors(gpu, model.config, old);
  assertBitEqual(await loaded.forward(inputOf()).data(), expected);
  loaded.dispose();
  model.dispose();
});

test("tied or not, with a bias or without", async () => {
  for (const tie_word_embeddings of [true, false]) {
    for (const lm_head_bias of [true, false]) {
      const { model, tensors } = await savedModel({ tie_word_embeddings, lm_head_bias });
      assert.is(tensors.has("lm_head.weight"), !tie_word_embeddings);
      assert.is(tensors.has("lm_head.bias"), lm_head_bias);
      const loaded = gpt2FromTensors(gpu, model.config, tensors);
      assertBitEqual(await loaded.forward(inputOf()).data(), await model.forward(inputOf()).data());
      loaded.dispose();
      model.dispose();
    }
  }
});

test("frozen matrices in f16 are close, and half the memory", async () => {
  const { model } = await savedModel({ n_embd: 64 });
  model.setRequiresGrad(false);
  const read = async () => {
    const logits = model.forward(inputOf());
    const values = (await logits.data()) as Float32Array;
    logits.dispose();
    return { values, bytes: liveBytes(gpu) };
  };
  const exact = await read();
  model.to("f16");
  const half = await read();
  const matrices = model.parameters().filter(({ shape }) => shape.length > 1);
  const saved = matrices.reduce((sum, { size }) => sum + 2 * size, 0);
  assert.ok(half.bytes < exact.bytes - 0.8 * saved, `${half.bytes}, ${exact.bytes} before`);
  const largest = exact.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  assert.ok(exact.values.every((value, i) => Math.abs(value - (half.values[i] ?? 0)) < 1e-2 * largest));
  model.dispose();
});

test("what is missing, left over or of another shape is listed, and memory goes back", async () => {
  const { model, tensors } = await savedModel();
  const before = liveBytes(gpu);
  const words = tensors.get("transformer.wte.weight") as RawTensor;
  tensors.delete("transformer.ln_f.bias");
  tensors.set("transformer.h.2.ln_1.bias", words);
  tensors.set("transformer.wpe.weight", words);
  assert.throws(
    () => gpt2FromTensors(gpu, model.config, tensors, "model.safetensors"),
    /load model\.safetensors: 1 missing: transformer\.ln_f\.bias; 1 unexpected: transformer\.h\.2\.ln_1\.bias; 1 of other shape: transformer\.wpe\.weight \[13, 8\] vs \[9, 8\] of the model/,
  );
  assert.is(liveBytes(gpu), before);
  model.dispose();
});

test("an unsupported config is refused, and other names of settings are read", () => {
  const refused = (change: object, message: RegExp): void => {
    assert.throws(() => parseGpt2Config({ ...TINY, ...change }), message);
  };
  refused({ model_type: "gptj" }, /config: model_type is "gptj"; supported: "gpt2"/);
  refused({ activation_function: "mish" }, /config: activation_function is "mish"; supported: "gelu_new"/);
  refused({ add_cross_attention: true }, /config: add_cross_attention is true; supported: false/);
  refused({ n_head: 3 }, /config: n_embd 8 does not split into 3 heads/);
  refused({ n_layer: 0 }, /config: n_layer is 0, expected a whole number of 1 or more/);
  refused({ tie_word_embeddings: "no" }, /config: tie_word_embeddings is "no", expected true or false/);
  assert.throws(() => parseGpt2Config([]), /config: not a JSON object/);
  assert.throws(() => parseGpt2Config({ ...TINY, model_type: undefined }), /config: no "model_type"/);
  const { model_type: _, ...rest } = TINY;
  const like = { ...rest, model: "gpt2-like", activation: "relu", tied: false, lm_head_bias: true };
  const config = parseGpt2Config(like);
  assert.is(config.activation_function, "relu");
  assert.is(config.tie_word_embeddings, false);
  assert.is(config.lm_head_bias, true);
  assert.is(config.eos_token_id, 12);
  assert.equal(parseGpt2Config(config), config);
});

test("scores are scaled as the config says", async () => {
  const { model, tensors } = await savedModel();
  const plain = await model.forward(inputOf()).data();
  for (const change of [{ scale_attn_weights: false }, { scale_attn_by_inverse_layer_idx: true }]) {
    const other = gpt2FromTensors(gpu, parseGpt2Config({ ...TINY, ...change }), tensors);
    assert.not.equal(await other.forward(inputOf()).data(), plain);
    other.dispose();
  }
  // Without a scale queries of half the size (heads of 4) give the usual scores.
  const halved = new Map(tensors);
  for (const i of [0, 1]) {
    for (const kind of ["weight", "bias"]) {
      const name = `transformer.h.${i}.attn.c_attn.${kind}`;
      const raw = tensors.get(name) as RawTensor;
      const values = new Float32Array(raw.bytes.slice().buffer);
      halved.set(name, {
        ...raw,
        bytes: new Uint8Array(values.map((value, at) => (at % 24 < 8 ? value / 2 : value)).buffer),
      });
    }
  }
  const unscaled = parseGpt2Config({ ...TINY, scale_attn_weights: false });
  const same = gpt2FromTensors(gpu, unscaled, halved);
  assertBitEqual(await same.forward(inputOf()).data(), plain);
  same.dispose();
  model.dispose();
});

test("ids and positions of other shapes are refused, and texts longer than the positions", async () => {
  const { model } = await savedModel();
  const flat = { ...inputOf(), inputIds: tensor(gpu, ids) };
  assert.throws(() => model.forward(flat), /gpt2: inputIds \[6\], expected \[batch, length\]/);
  const apart = { ...inputOf(), positionIds: tensor(gpu, ids, [3, 2]) };
  assert.throws(() => model.forward(apart), /gpt2: positionIds \[3, 2\], inputIds \[2, 3\]/);
  assert.throws(
    () => causalPositions([1, 1, 1, 0, 1, 1], 3, 2),
    /a text of 3 tokens; the model has positions for 2/,
  );
  assert.equal([...causalPositions([0, 1, 1, 1, 1, 0], 3, 2)], [0, 0, 1, 0, 1, 0]);
  model.dispose();
});

test("a broken llama2.c checkpoint is refused", () => {
  const header = Int32Array.of(8, 12, 1, 2, 1, 5, 4);
  const floats = 5 * 8 + 8 + 64 + 32 + 32 + 64 + 8 + 3 * 96 + 8 + 2 * 4 * 2;
  const whole = new Uint8Array(28 + 4 * floats);
  whole.set(new Uint8Array(header.buffer));
  const { config, tensors } = readLlama2c(whole);
  assert.is(config.num_key_value_heads, 1);
  assert.equal(tensors.get("model.layers.0.self_attn.k_proj.weight")?.shape, [4, 8]);
  assert.ok(!tensors.has("lm_head.weight"));
  assert.throws(() => readLlama2c(whole.subarray(0, 20)), /20 bytes, fewer than the 28 of a header/);
  assert.throws(
    () => readLlama2c(whole.subarray(0, whole.length - 4)),
    /llama2\.c: sines ends at byte \d+, the file has \d+/,
  );
  const longer = new Uint8Array(whole.length + 8);
  longer.set(whole);
  assert.throws(() => readLlama2c(longer), /8 bytes are left over/);
  assert.throws(() => readLlama2c(new Uint8Array(100)), /dim is 0; is this a checkpoint of version 0\?/);
  const own = new Uint8Array(whole.length + 4 * 40);
  own.set(whole);
  own.set(new Uint8Array(Int32Array.of(-5).buffer), 20);
  assert.equal(readLlama2c(own).tensors.get("lm_head.weight")?.shape, [5, 8]);
});

test.run();
