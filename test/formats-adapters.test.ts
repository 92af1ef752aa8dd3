// Folders of adapter-hub's `adapters`, there and back. What their config means is worked out here once more, from the
// exported files alone, and attached in place of the adapter.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { add, gelu, geluTanh, linear, relu, silu, type Tensor, tensor } from "../src/autograd/index.ts";
import { detectFormat, exportAdapter, importAdapter, readAdapterFile } from "../src/formats/index.ts";
import { openTensorFile, toFloat32 } from "../src/io/index.ts";
import {
  adapter,
  fixedRouter,
  houlsby,
  lora,
  type PeftMethod,
  pfeiffer,
  unipelt,
} from "../src/peft/index.ts";
import { loadAdapter, saveAdapter } from "../src/train/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attached, buildModel, type FamilyName, type FormatModel, LAYERS } from "./format-models.ts";

const gpu = await testGpu();
const folder = scratchFolder();
const test = suite("adapters folders");
let count = 0;

interface Saved {
  readonly path: string;
  readonly logits: Float32Array<ArrayBuffer>;
}

/** A saved adapter of a tiny model with a head of its own, and the logits that it gives. */
async function saved(family: FamilyName, method: PeftMethod): Promise<Saved> {
  const built = buildModel(family);
  const set = attached(built, method);
  if (set.isMixture) set.routes.draw(fixedRouter(0), { step: 0, passes: 1 });
  const isEncoder = family === "bert" || family === "roberta";
  const path = join(folder, `${family}-${count++}`);
  const labels = isEncoder ? ["a", "b", "c"] : [];
  await saveAdapter(path, built.model, set, { base: "somewhere/tiny", labels });
  const logits = await built.logits();
  set.dispose();
  built.model.dispose();
  return { path, logits };
}

async function logitsOf(path: string, family: FamilyName): Promise<Float32Array<ArrayBuffer>> {
  const fresh = buildModel(family);
  const set = loadAdapter(gpu, fresh.model, path);
  const logits = await fresh.logits();
  set?.dispose();
  fresh.model.dispose();
  return logits;
}

type Json = Readonly<Record<string, unknown>>;

function readJson(path: string, name: string): Json {
  return JSON.parse(readFileSync(join(path, name), "utf8"));
}

function configOf(path: string): Record<string, unknown> {
  return readJson(path, "adapter_config.json").config as Record<string, unknown>;
}

function tensorsOf(path: string, name: string): Map<string, Tensor> {
  const file = openTensorFile(join(path, name));
  const tensors = [...file.tensors].map(([key, raw]): [string, Tensor] => [
    key,
    tensor(gpu, new Float32Array(toFloat32(raw)), [...raw.shape]),
  ]);
  file.close();
  return new Map(tensors);
}

const THERE = { gelu, gelu_new: geluTanh, relu, swish: silu } as const;
/** Where each family keeps its adapters there, and which site that is here. */
const MODULES: readonly (readonly [there: RegExp, here: string])[] = [
  [/^(.+\.layer\.\d+\.(?:attention\.)?output)$/, "$1"],
  [/^(.+\.h\.\d+)\.output_adapters$/, "$1.mlp.output"],
  [/^(.+\.h\.\d+)\.attention_adapters$/, "$1.attn.output"],
  [/^(.+\.layers\.\d+)\.output_adapters$/, "$1.mlp.output"],
  [/^(.+\.layers\.\d+)\.attention_adapters$/, "$1.self_attn.output"],
];

/** Attaches what the exported folder says, as its library computes it. */
function attachAsThere({ model }: FormatModel, path: string): void {
  const config = configOf(path);
  const weights = tensorsOf(path, "pytorch_adapter.bin");
  const act = THERE[config.non_linearity as keyof typeof THERE];
  const sites = new Map(model.sites().map((site) => [site.name, site]));
  for (const key of weights.keys()) {
    const module = /^(.+)\.adapters\.tiny\.adapter_up\.weight$/.exec(key)?.[1];
    if (!module) continue;
    const [pattern, here] = MODULES.find(([there]) => there.test(module)) ?? [/^$/, ""];
    const site = sites.get(module.replace(pattern, here));
    if (site?.kind !== "output") throw new Error(`no site for ${module}`);
    const part = (name: string): Tensor => weights.get(`${module}.adapters.tiny.${name}`) as Tensor;
    site.attach("there", ({ value, residual, layerNorm }) => {
      const x = config.original_ln_before ? layerNorm.forward(add(value, residual)) : value;
      const inside = act(linear(x, part("adapter_down.0.weight"), part("adapter_down.0.bias")));
      return add(linear(inside, part("adapter_up.weight"), part("adapter_up.bias")), value);
    });
  }
}

/** The head of the exported folder, written into the model under the names that it has here. */
async function loadHeadAsThere({ model }: FormatModel, path: string, names: Json): Promise<void> {
  const weights = tensorsOf(path, "pytorch_model_head.bin");
  for (const [there, here] of Object.entries(names)) {
    for (const part of ["weight", "bias"]) {
      const values = await weights.get(`heads.tiny.${there}.${part}`)?.data();
      model
        .stateDict()
        .get(`${here}.${part}`)
        ?.write(values as Float32Array<ArrayBuffer>);
    }
  }
}

const HEADS: Readonly<Partial<Record<FamilyName, Json>>> = {
  roberta: { 1: "classifier.dense", 4: "classifier.out_proj" },
  bert: { 1: "classifier" },
};
for (const family of ["bert", "roberta", "gpt2", "llama"] as const) {
  const cases = {
    // With the activation of the model's own feed-forward parts.
    "AdaMix's placement": adapter({ bottleneck: 4 }),
    "Houlsby's": houlsby({ bottleneck: 5 }),
    "tanh approximation, odd size": adapter({ bottleneck: 7, activation: "geluTanh" }),
    ...(HEADS[family] && { "Pfeiffer's": pfeiffer({ bottleneck: 3 }) }),
  };
  for (const [what, method] of Object.entries(cases)) {
    test(`${family}, ${what}: exported means the same there, imported again has the same bits`, async () => {
      const { path, logits } = await saved(family, method);
      const [out, back] = [`${path}-hub`, `${path}-back`];
      exportAdapter(path, out, { format: "adapters", name: "tiny" });
      const { mh_adapter, output_adapter, reduction_factor, leave_out } = configOf(out);
      assert.equal([mh_adapter, output_adapter, leave_out], [what === "Houlsby's", true, []]);
      assert.is(Math.floor(12 / Number(reduction_factor)), method.config.bottleneck);
      assert.is(detectFormat(out), "adapters");
      importAdapter(out, back);
      assertBitEqual(await logitsOf(back, family), logits, "logits");
      assert.equal(readAdapterFile(back).config.labels, readAdapterFile(path).config.labels);
      const there = buildModel(family);
      attachAsThere(there, out);
      const head = HEADS[family];
      if (head) await loadHeadAsThere(there, out, head);
      assertClose(await there.logits(), logits, { atol: 2e-6, rtol: 1e-5, name: "as there" });
      there.model.dispose();
    });
  }

  test(`${family}, LoRA: there and back with the same bits`, async () => {
    const { path, logits } = await saved(family, lora({ rank: 2, alpha: 3 }));
    exportAdapter(path, `${path}-hub`, { format: "adapters", name: "tiny" });
    const config = configOf(`${path}-hub`);
    assert.equal(
      [config.architecture, config.r, config.alpha, config.attn_matrices],
      ["lora", 2, 3, ["q", "v"]],
    );
    importAdapter(`${path}-hub`, `${path}-back`);
    assertBitEqual(await logitsOf(`${path}-back`, family), logits, "logits");
  });
}

test("GPT-2's LoRA has the merged shapes: A of both parts, B of both", async () => {
  const { path } = await saved("gpt2", lora({ rank: 2 }));
  exportAdapter(path, `${path}-hub`, { format: "adapters", name: "tiny" });
  const tensors = tensorsOf(`${path}-hub`, "adapter.safetensors");
  const module = "transformer.h.1.attn.c_attn.loras.tiny";
  assert.equal(tensors.get(`${module}.lora_A`)?.shape, [4, 12]);
  assert.equal(tensors.get(`${module}.lora_B`)?.shape, [24, 2]);
});

test("config and head: every field, numbers that must have a point, both files of weights", async () => {
  const { path } = await saved("roberta", adapter({ bottleneck: 4 }));
  const out = `${path}-hub`;
  exportAdapter(path, out, { format: "adapters", name: "tiny" });
  const text = readFileSync(join(out, "adapter_config.json"), "utf8");
  assert.match(text, /"scaling": 1\.0,/);
  const { config, ...common } = JSON.parse(text);
  assert.equal(common, {
    hidden_size: 12,
    model_class: "RobertaAdapterModel",
    model_name: "somewhere/tiny",
    model_type: "roberta",
    name: "tiny",
    version: "adapters.1.2.0",
  });
  const wiring = {
    mh_adapter: false,
    output_adapter: true,
    original_ln_before: false,
    original_ln_after: true,
    residual_before_ln: true,
    adapter_residual_before_ln: false,
    ln_before: false,
    ln_after: false,
    non_linearity: "gelu",
  };
  for (const [key, value] of Object.entries(wiring)) assert.is(config[key], value, key);
  assert.is(Object.keys(config).length, 32, "fields of BnConfig");
  const head = readJson(out, "head_config.json");
  assert.equal(head.config, {
    activation_function: "tanh",
    bias: true,
    dropout_prob: null,
    head_type: "classification",
    label2id: { a: 0, b: 1, c: 2 },
    layers: 2,
    num_labels: 3,
    use_pooler: false,
  });
  for (const [bin, safe] of [
    ["pytorch_adapter.bin", "adapter.safetensors"],
    ["pytorch_model_head.bin", "model_head.safetensors"],
  ] as const) {
    const [a, b] = [tensorsOf(out, bin), tensorsOf(out, safe)];
    assert.equal([...a.keys()], [...b.keys()]);
    for (const [name, values] of a)
      assertBitEqual(await values.data(), (await b.get(name)?.data()) ?? new Float32Array());
  }
  exportAdapter(path, `${out}-headless`, { format: "adapters", head: false });
  assert.throws(() => readJson(`${out}-headless`, "head_config.json"), /ENOENT/);
});

test("BERT: a pooler that was trained becomes the first layer of the head", async () => {
  const built = buildModel("bert");
  const own = built.model.stateDict();
  for (const [name, parameter] of own) if (name.startsWith("bert.pooler.")) parameter.requiresGrad = true;
  const set = attached(built, adapter({ bottleneck: 3 }));
  const path = join(folder, "pooled");
  await saveAdapter(path, built.model, set, { base: "b", labels: ["a", "b", "c"] });
  const logits = await built.logits();
  exportAdapter(path, `${path}-hub`, { format: "adapters", name: "tiny" });
  const head = readJson(`${path}-hub`, "head_config.json").config as Json;
  assert.equal([head.layers, head.use_pooler], [2, false]);
  importAdapter(`${path}-hub`, `${path}-back`);
  const other = buildModel("bert");
  other.model.stateDict().get("bert.pooler.dense.weight")?.write(new Float32Array(144));
  const loaded = loadAdapter(gpu, other.model, `${path}-back`);
  assertBitEqual(await other.logits(), logits, "logits");
  for (const part of [set, loaded, built.model, other.model]) part?.dispose();
});

test("layers left out are listed; without the number of layers the base model must be here", async () => {
  const { path, logits } = await saved("roberta", adapter({ bottleneck: 3, targets: ["layer.1.output"] }));
  exportAdapter(path, `${path}-hub`, { format: "adapters" });
  assert.equal(configOf(`${path}-hub`).leave_out, [0]);
  importAdapter(`${path}-hub`, `${path}-back`);
  assertBitEqual(await logitsOf(`${path}-back`, "roberta"), logits, "logits");
  const { config, tensors } = readAdapterFile(path);
  const { model, ...rest } = config;
  assert.is(model?.layers, LAYERS);
  const older = { config: { ...rest, peft: config.peft, base: config.base, labels: config.labels }, tensors };
  const out = join(folder, "x");
  assert.throws(
    () => exportAdapter(older, out, { format: "adapters" }),
    /somewhere\/tiny is not here.*--base/,
  );
});

test("Pfeiffer's wiring reads LN(h + x): seq_bn there; not on models that normalise before", async () => {
  const { path } = await saved("bert", pfeiffer({ bottleneck: 3 }));
  exportAdapter(path, `${path}-hub`, { format: "adapters", name: "tiny" });
  const { original_ln_before, residual_before_ln, non_linearity } = configOf(`${path}-hub`);
  assert.equal([original_ln_before, residual_before_ln, non_linearity], [true, true, "relu"]);
  const gpt2 = await saved("gpt2", pfeiffer({ bottleneck: 3 }));
  assert.throws(
    () => exportAdapter(gpt2.path, join(folder, "x"), { format: "adapters" }),
    /reads LN\(h \+ x\) on gpt2: adapters normalises nothing there/,
  );
});

test("methods that are no banks are refused; a safetensors file takes them, there and back", async () => {
  const { path, logits } = await saved("roberta", unipelt({ adapter: { bottleneck: 2 }, lora: { rank: 2 } }));
  for (const format of ["peft", "adapters"] as const)
    assert.throws(
      () => exportAdapter(path, join(folder, "x"), { format }),
      /method "unipelt"; expected one of adapter, lora \(format safetensors takes every method\)/,
    );
  exportAdapter(path, `${path}-plain`, { format: "safetensors" });
  importAdapter(`${path}-plain`, `${path}-back`);
  assertBitEqual(await logitsOf(`${path}-back`, "roberta"), logits, "logits");
});

/** Changes the config of an exported folder. */
function altered(path: string, changes: Json, top: Json = {}): string {
  const file = readJson(path, "adapter_config.json");
  const config = { ...(file.config as object), ...changes };
  writeFileSync(join(path, "adapter_config.json"), JSON.stringify({ ...file, config, ...top }));
  return path;
}

test("what would compute something else is refused by name; a factor goes into the up-projection", async () => {
  const { path } = await saved("bert", adapter({ bottleneck: 3 }));
  const out = `${path}-hub`;
  const back = `${path}-back`;
  exportAdapter(path, out, { format: "adapters", name: "tiny" });
  const name = "bert.encoder.layer.0.output.adapter.up.weight";
  const scaled = importAdapter(altered(out, { scaling: 4 }), back).tensors.get(name)?.data;
  const original = readAdapterFile(path).tensors.get(name)?.data;
  assert.equal(
    scaled,
    original?.map((x) => 4 * x),
  );
  for (const [changes, message] of [
    [{ scaling: "learned" }, /scaling is "learned", expected a number/],
    [{ scaling: 1, ln_after: true }, /ln_after is true/],
    [{ ln_after: false, is_parallel: true }, /is_parallel is true/],
    [{ is_parallel: false, inv_adapter: "nice" }, /inv_adapter is "nice"/],
    [
      { inv_adapter: null, original_ln_before: true, residual_before_ln: false },
      /residual_before_ln is false/,
    ],
    [{ original_ln_before: false, non_linearity: "mish" }, /non_linearity is "mish"; supported: "relu"/],
    [{ non_linearity: "gelu", architecture: "prefix_tuning" }, /architecture is "prefix_tuning"/],
  ] as const)
    assert.throws(() => importAdapter(altered(out, changes), back), message);
  const old = importAdapter(altered(out, { architecture: null }, { version: undefined }), back);
  assert.is(old.config.peft?.activation, "geluTanh", "before versions were written down");
  const mixture = await saved("bert", adapter({ bottleneck: 3, experts: 2 }));
  assert.throws(
    () => exportAdapter(mixture.path, join(folder, "x"), { format: "adapters" }),
    /holds 2 experts, adapters holds one/,
  );
});

test.run();
