// Folders of peft, there and back: key names, what they mean for the base weights, and what is refused.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { exportAdapter, importAdapter, readAdapterFile } from "../src/formats/index.ts";
import { decodeSafetensors, encodeSafetensors, type TensorToWrite, toFloat32 } from "../src/io/index.ts";
import { adapter, fixedRouter, lora, type PeftMethod } from "../src/peft/index.ts";
import { loadAdapter, saveAdapter } from "../src/train/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attached, buildModel, type FamilyName, type FormatModel } from "./format-models.ts";

const gpu = await testGpu();
const folder = scratchFolder();
const test = suite("peft folders");

interface Saved {
  readonly path: string;
  readonly logits: Float32Array<ArrayBuffer>;
  dispose(): void;
}

/** A saved adapter of a tiny model, and the logits that it gives. */
async function saved(family: FamilyName, method: PeftMethod, overrides = {}): Promise<Saved> {
  const model = buildModel(family, { overrides });
  const set = attached(model, method);
  const isEncoder = family === "bert" || family === "roberta";
  const path = join(folder, `${family}-${Math.abs(hash(JSON.stringify([method.config, overrides])))}`);
  await saveAdapter(path, model.model, set, {
    base: "somewhere/tiny",
    labels: isEncoder ? ["a", "b", "c"] : [],
  });
  if (set.isMixture) set.routes.draw(fixedRouter(0), { step: 0, passes: 1 });
  const logits = await model.logits();
  const dispose = (): void => {
    set.dispose();
    model.model.dispose();
  };
  return { path, logits, dispose };
}

function hash(text: string): number {
  let h = 0;
  for (const letter of text) h = (31 * h + letter.charCodeAt(0)) | 0;
  return h;
}

function readConfig(path: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(path, "adapter_config.json"), "utf8"));
}

function readWeights(path: string) {
  return decodeSafetensors(readFileSync(join(path, "adapter_model.safetensors")));
}

/** What peft's files mean: W += lora_alpha / r · B A for each module, transposed where fan_in_fan_out says so. */
async function foldByHand(path: string, { model }: FormatModel): Promise<void> {
  const { r, lora_alpha: alpha, fan_in_fan_out: isTransposed } = readConfig(path) as Record<string, number>;
  const { tensors } = readWeights(path);
  const parameters = model.stateDict();
  for (const [key, tensor] of tensors) {
    const name = key.slice("base_model.model.".length);
    if (!name.includes(".lora_")) {
      parameters.get(name)?.write(new Float32Array(toFloat32(tensor)));
      continue;
    }
    if (!name.endsWith(".lora_A.weight")) continue;
    const other = tensors.get(key.replace("lora_A", "lora_B"));
    const parameter = parameters.get(`${name.replace(".lora_A.weight", "")}.weight`);
    if (!other || !parameter) throw new Error(`${name}: no lora_B, or no such module`);
    const [a, b] = [toFloat32(tensor), toFloat32(other)];
    const [rank = 0, inputs = 0] = tensor.shape;
    assert.is(rank, r);
    const outputs = other.shape[0] ?? 0;
    const weight = (await parameter.data()) as Float32Array<ArrayBuffer>;
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++) {
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += (b[o * rank + k] ?? 0) * (a[k * inputs + i] ?? 0);
        const at = isTransposed ? i * outputs + o : o * inputs + i;
        weight[at] = (weight[at] ?? 0) + ((alpha ?? 0) / rank) * sum;
      }
    }
    parameter.write(weight);
  }
}

const CASES: readonly (readonly [family: FamilyName, targets: readonly string[], keys: readonly string[]])[] =
  [
    ["bert", ["value", "feedForwardOutput"], ["bert.encoder.layer.0.output.dense"]],
    ["bert", ["query", "value"], ["bert.encoder.layer.0.attention.self.query", "classifier.weight"]],
    [
      "roberta",
      ["query", "key", "value"],
      ["roberta.encoder.layer.1.attention.self.key", "classifier.out_proj.weight"],
    ],
    ["gpt2", ["query", "value"], ["transformer.h.1.attn.c_attn"]],
    ["gpt2", ["query", "attentionOutput", "feedForwardInner"], ["transformer.h.0.attn.c_proj"]],
    ["gpt2", ["query", "key", "value"], ["transformer.h.0.attn.c_attn"]],
    ["gpt2", ["h.1.attn.c_attn.key"], ["transformer.h.1.attn.c_attn"]],
    ["llama", ["q_proj", "v_proj", "down_proj"], ["model.layers.1.mlp.down_proj"]],
  ];

for (const [family, targets, keys] of CASES) {
  test(`${family}, ${targets.join(", ")}: exported as peft names it, imported again with the same bits`, async () => {
    const { path, logits, dispose } = await saved(family, lora({ rank: 2, alpha: 3, targets }));
    const [out, back] = [`${path}-peft`, `${path}-back`];
    exportAdapter(path, out, { format: "peft" });
    const names = [...readWeights(out).tensors.keys()];
    for (const key of keys) {
      const full = `base_model.model.${key}`;
      assert.ok(names.includes(full) || names.includes(`${full}.lora_A.weight`), `${full} among ${names}`);
    }
    importAdapter(out, back);
    const fresh = buildModel(family, { seed: 3 });
    const set = loadAdapter(gpu, fresh.model, back);
    assertBitEqual(await fresh.logits(), logits, "logits");
    assert.equal(readAdapterFile(back).config.labels, readAdapterFile(path).config.labels);
    set?.dispose();
    const folded = buildModel(family);
    await foldByHand(out, folded);
    assertClose(await folded.logits(), logits, { atol: 1e-5, name: "folded by hand" });
    fresh.model.dispose();
    folded.model.dispose();
    dispose();
  });
}

test("the config: every key that peft needs, keys sorted", async () => {
  const { path, dispose } = await saved("roberta", lora({ rank: 2, alpha: 3 }));
  exportAdapter(path, `${path}-config`, { format: "peft" });
  const config = readConfig(`${path}-config`);
  assert.equal(Object.keys(config), Object.keys(config).sort());
  assert.equal(config, {
    peft_type: "LORA",
    task_type: "SEQ_CLS",
    base_model_name_or_path: "somewhere/tiny",
    revision: null,
    inference_mode: true,
    r: 2,
    lora_alpha: 3,
    lora_dropout: 0,
    use_rslora: false,
    target_modules: ["query", "value"],
    fan_in_fan_out: false,
    bias: "none",
    modules_to_save: ["classifier"],
    init_lora_weights: true,
  });
  const { metadata } = readWeights(`${path}-config`);
  assert.is(metadata.format, "pt");
  assert.is(metadata.labels, '["a","b","c"]');
  exportAdapter(path, `${path}-headless`, { format: "peft", head: false });
  assert.is(readConfig(`${path}-headless`).modules_to_save, null);
  assert.is(readConfig(`${path}-headless`).task_type, null);
  dispose();
});

test("GPT-2: query and value of rank r are c_attn of rank 2r and alpha 2 alpha, zeros elsewhere", async () => {
  const { path, dispose } = await saved("gpt2", lora({ rank: 2, alpha: 3 }));
  exportAdapter(path, `${path}-fused`, { format: "peft" });
  const config = readConfig(`${path}-fused`);
  assert.is(config.r, 4);
  assert.is(config.lora_alpha, 6);
  assert.is(config.fan_in_fan_out, true);
  assert.is(config.task_type, "CAUSAL_LM");
  assert.equal(config.target_modules, ["c_attn"]);
  const b = readWeights(`${path}-fused`).tensors.get(
    "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight",
  );
  assert.equal(b?.shape, [36, 4]);
  if (b)
    toFloat32(b).forEach((value, i) => {
      const [row, column] = [Math.floor(i / 4), i % 4];
      const isBlock = (row < 12 && column < 2) || (row >= 24 && column >= 2);
      assert.is(value !== 0, isBlock, `B[${row}, ${column}]`);
    });
  dispose();
});

test("rank-stabilised LoRA: its factor becomes an alpha", async () => {
  const { path, logits, dispose } = await saved("bert", lora({ rank: 4, alpha: 3, rankStabilised: true }));
  exportAdapter(path, `${path}-rs`, { format: "peft" });
  assert.is(readConfig(`${path}-rs`).lora_alpha, 6);
  const folded = buildModel("bert");
  await foldByHand(`${path}-rs`, folded);
  assertClose(await folded.logits(), logits, { atol: 1e-5, name: "folded by hand" });
  folded.model.dispose();
  dispose();
});

test("layers left out: every module by its name", async () => {
  const targets = ["layer.1.attention.self.query"];
  const { path, dispose } = await saved("roberta", lora({ rank: 2, targets }));
  exportAdapter(path, `${path}-some`, { format: "peft" });
  assert.equal(readConfig(`${path}-some`).target_modules, ["roberta.encoder.layer.1.attention.self.query"]);
  dispose();
});

/** A peft folder written by hand: bare names, ranks and factors of their own. */
function foreign(
  name: string,
  config: object,
  tensors: readonly (readonly [string, TensorToWrite])[],
): string {
  const path = join(folder, name);
  exportAdapterFolder(path, {
    "adapter_config.json": JSON.stringify({ peft_type: "LORA", base_model_name_or_path: "b", ...config }),
    "adapter_model.safetensors": encodeSafetensors(tensors, { format: "pt" }),
  });
  return path;
}

function exportAdapterFolder(path: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  mkdirSync(path, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
}

const ramp = (rows: number, columns: number, start: number): TensorToWrite => ({
  dtype: "F32",
  shape: [rows, columns],
  data: Float32Array.from({ length: rows * columns }, (_, i) => ((start + i) % 7) / 8 - 0.25),
});

test("ranks and factors that differ become one: y stays, B takes up the difference", () => {
  const q = "base_model.model.encoder.layer.0.attention.self.query";
  const v = "base_model.model.encoder.layer.0.attention.self.value";
  const path = foreign("uneven", { r: 4, lora_alpha: 8, alpha_pattern: { value: 4 } }, [
    [`${q}.lora_A.weight`, ramp(4, 12, 1)],
    [`${q}.lora_B.weight`, ramp(12, 4, 2)],
    [`${v}.lora_A.weight`, ramp(1, 12, 3)],
    [`${v}.lora_B.weight`, ramp(12, 1, 4)],
  ]);
  assert.throws(() => importAdapter(path, `${path}-back`), /is of BERT or of RoBERTa.*--base/);
  const { config, tensors } = importAdapter(path, `${path}-back`, { model: { type: "bert", layers: 1 } });
  assert.is(config.peft?.rank, 4);
  assert.is(config.peft?.alpha, 8);
  const b = tensors.get("bert.encoder.layer.0.attention.self.value.lora.lora_B.weight");
  assert.equal(b?.shape, [1, 12, 4]);
  // 4 / 1 in place of 8 / 4: twice the values, in the first column of four.
  const original = ramp(12, 1, 4).data as Float32Array;
  assert.equal(
    [...(b?.data ?? [])],
    [...original].flatMap((x) => [2 * x, 0, 0, 0]),
  );
});

test("a well-known base is known by its name: layers are counted, patterns are short", async () => {
  const q = "base_model.model.roberta.encoder.layer";
  const keys = Array.from({ length: 24 }, (_, layer) => `${q}.${layer}.attention.self.query`);
  const pairs = keys.flatMap((key): [string, TensorToWrite][] => [
    [`${key}.lora_A.weight`, ramp(2, 8, 1)],
    [`${key}.lora_B.weight`, ramp(8, 2, 2)],
  ]);
  const path = foreign(
    "published",
    { r: 2, lora_alpha: 2, base_model_name_or_path: "FacebookAI/roberta-large" },
    pairs,
  );
  const { config } = importAdapter(path, `${path}-back`);
  assert.equal(config.peft?.targets, ["layer.*.attention.self.query"]);
  assert.equal(config.model, { type: "roberta", layers: 24, activation: "gelu", pooling: "cls" });
});

test("what would compute something else is refused by name", async () => {
  const none: readonly (readonly [string, TensorToWrite])[] = [];
  const refused = (config: object, message: RegExp): void =>
    assert.throws(() => importAdapter(foreign("bad", config, none), join(folder, "bad-back")), message);
  refused({ peft_type: "IA3" }, /peft_type is "IA3"; supported: "LORA"/);
  refused({ use_dora: true }, /use_dora is true, which is not supported here/);
  refused({ bias: "all" }, /bias is "all"/);
  refused({ init_lora_weights: "pissa_niter_4" }, /changes the base weights too/);
  const key = "base_model.model.bert.encoder.layer.0.attention.self.query";
  const pair: [string, TensorToWrite][] = [
    [`${key}.lora_A.weight`, ramp(2, 8, 1)],
    [`${key}.lora_B.weight`, ramp(8, 2, 2)],
  ];
  const odd = foreign("odd", { r: 2, lora_alpha: 2, alpha_pattern: { "(": 3 } }, pair);
  assert.throws(() => importAdapter(odd, join(folder, "x")), /alpha_pattern names "\(", which is no pattern/);
  assert.throws(() => importAdapter(join(folder, "nowhere"), "x"), /there is no .*nowhere/);
  const mixture = await saved("roberta", lora({ rank: 2, experts: 3 }));
  assert.throws(
    () => exportAdapter(mixture.path, join(folder, "x"), { format: "peft" }),
    /holds 3 experts, peft holds one .*--merge/,
  );
  mixture.dispose();
  const other = await saved("roberta", adapter({ bottleneck: 2 }));
  assert.throws(
    () => exportAdapter(other.path, join(folder, "x"), { format: "peft" }),
    /peft has LoRA, .*format adapters/,
  );
  other.dispose();
  const mean = await saved("roberta", lora({ rank: 2 }), { classifier_pooling: "mean" });
  assert.throws(
    () => exportAdapter(mean.path, join(folder, "x"), { format: "peft" }),
    /reads the mean of all tokens.*--no-head/,
  );
  mean.dispose();
});

test("a mixture merged on the way out is the mean of its experts", async () => {
  const { path, dispose } = await saved("bert", lora({ rank: 2, experts: 3 }));
  exportAdapter(path, `${path}-merged`, { format: "peft", merge: true });
  const name = "bert.encoder.layer.0.attention.self.query";
  const a = readWeights(`${path}-merged`).tensors.get(`base_model.model.${name}.lora_A.weight`);
  const { data } = readAdapterFile(path).tensors.get(`${name}.lora.lora_A.weight`) ?? { data: [] };
  if (!a) throw new Error("no lora_A");
  const mean = Float32Array.from(
    { length: 24 },
    (_, i) => ((data[i] ?? 0) + (data[24 + i] ?? 0) + (data[48 + i] ?? 0)) / 3,
  );
  assertClose(toFloat32(a), mean, { atol: 1e-7 });
  assert.is(readWeights(`${path}-merged`).metadata.mergedFrom, '{"experts":3,"share":"up","by":"uniform"}');
  dispose();
});

test.run();
