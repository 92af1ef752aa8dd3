// Checkpoints that PyTorch wrote under the names of the authors' programs and of microsoft/LoRA: what is read computes
// what it computed there. Goldens: test/golden/checkpoints.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import {
  type AdapterFormatName,
  detectFormat,
  exportAdapter,
  type ImportOptions,
  importAdapter,
  readForeign,
} from "../src/formats/index.ts";
import { encodePytorch } from "../src/io/index.ts";
import { loadAdapter } from "../src/train/index.ts";
import { scratchFolder } from "./cli-process.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { buildModel, CHANNELS, type FamilyName, LAYERS } from "./format-models.ts";

const gpu = await testGpu();
const folder = scratchFolder();
const test = suite("checkpoints of other programs");
const golden = (name: string): string =>
  fileURLToPath(new URL(`golden/checkpoints/${name}`, import.meta.url));
const values = JSON.parse(readFileSync(golden("values.json"), "utf8"));
const ROWS: number = values.x.length;
const BASE = { base: "somewhere/tiny" };

/** What the adaptation of one site makes of the golden input: of the sub-layer's output, or of 0 + LoRA(x). */
function applied(model: ReturnType<typeof buildModel>["model"], name: string): Tensor {
  const site = model.sites().find((one) => one.name === name);
  const x = tensor(gpu, Float32Array.from(values.x.flat()), [ROWS, CHANNELS]);
  if (site?.kind === "output")
    return site.apply({ value: x, residual: x, layerNorm: { forward: (y) => y } }, {});
  if (site?.kind !== "linear") throw new Error(`no site ${name}`);
  return site.apply(tensor(gpu, new Float32Array(ROWS * CHANNELS), [ROWS, CHANNELS]), x, {});
}

interface Case {
  readonly family: FamilyName;
  readonly format: AdapterFormatName;
  readonly options: ImportOptions;
  /** Sites here of a module there, each with the columns of the golden output that are its own. */
  readonly sites: Readonly<Record<string, readonly string[]>>;
}

const layers = (f: (layer: number) => readonly [string, readonly string[]]): Case["sites"] =>
  Object.fromEntries(Array.from({ length: LAYERS }, (_, layer) => f(layer)));
const encoderSites = layers((i) => [
  `roberta.encoder.layer.${i}.output.ExpertSoup`,
  [`roberta.encoder.layer.${i}.output`],
]);
const attention = layers((i) => {
  const module = `transformer.h.${i}.attn.c_attn`;
  return [module, [`${module}.query`, `${module}.value`]];
});
const CASES: Readonly<Record<string, Case>> = {
  nlu: { family: "roberta", format: "authors", options: BASE, sites: encoderSites },
  nlu_tuned: { family: "roberta", format: "authors", options: { ...BASE, merge: true }, sites: encoderSites },
  nlg_adapter: {
    family: "gpt2",
    format: "authors",
    options: BASE,
    sites: layers((i) => [`transformer.h.${i}.mlp.ExpertSoup`, [`transformer.h.${i}.mlp.output`]]),
  },
  nlg_lora: { family: "gpt2", format: "authors", options: { ...BASE, alpha: 6 }, sites: attention },
  loralib: { family: "gpt2", format: "loralib", options: { ...BASE, alpha: 6 }, sites: attention },
};

for (const [name, { family, format, options, sites }] of Object.entries(CASES)) {
  test(`${name}: detected as ${format}; merged, it computes what PyTorch computed`, async () => {
    const path = golden(`${name}.bin`);
    assert.is(detectFormat(path), format);
    const out = join(folder, name);
    importAdapter(path, out, options);
    const { model } = buildModel(family);
    const set = loadAdapter(gpu, model, out);
    const merged = set?.isMixture ? set.mergeExperts(model, Stream.seed(0)) : set;
    if (merged !== set) {
      set?.detach();
      merged?.attach();
    }
    for (const [module, names] of Object.entries(sites)) {
      const expected: number[][] = values[name][module];
      for (const [i, site] of names.entries()) {
        const own = expected.flatMap((row) => row.slice(i * CHANNELS, (i + 1) * CHANNELS));
        const y = applied(model, site);
        assertClose(await y.data(), own, { atol: 2e-6, rtol: 1e-5, name: site });
        y.dispose();
      }
    }
    for (const part of new Set([merged, set])) part?.dispose();
    model.dispose();
  });
}

test("a mixture is read with all its experts and the sharing that they show; its head comes along", () => {
  const { config, tensors } = readForeign(golden("nlu.bin"), { ...BASE, labels: ["no", "maybe", "yes"] });
  assert.equal([config.peft?.experts, config.peft?.share, config.peft?.bottleneck], [4, "up", 3]);
  assert.equal(config.labels, ["no", "maybe", "yes"]);
  assert.equal(tensors.get("roberta.encoder.layer.0.output.adapter.down.weight")?.shape, [4, 3, 12]);
  assert.equal(tensors.get("roberta.encoder.layer.0.output.adapter.up.bias")?.shape, [1, 12]);
  assert.equal(tensors.get("classifier.dense.weight")?.shape, [12, 12]);
  assert.not(tensors.has("roberta.encoder.layer.0.output.dense.bias"));
  const lora = readForeign(golden("nlg_lora.bin"), { ...BASE, alpha: 6 });
  assert.equal([lora.config.peft?.experts, lora.config.peft?.share, lora.config.peft?.rank], [4, "up", 3]);
  assert.equal(lora.config.labels, []);
});

test("what a file does not say must be given, and what does not fit is refused", () => {
  const read = (name: string, options: ImportOptions) => () => readForeign(golden(`${name}.bin`), options);
  assert.throws(read("nlu", {}), /does not say its base model .*--base/);
  assert.throws(read("nlg_lora", BASE), /does not say alpha.*--alpha/);
  assert.throws(read("loralib", BASE), /does not say alpha/);
  assert.throws(read("nlu_tuned", BASE), /tuned to weights 0\.\d{3}, .*--merge/);
  assert.throws(read("nlu", { ...BASE, labels: ["a"] }), /1 labels \(a\) for a head of 3 classes/);
  assert.throws(
    () => detectFormat(golden("values.json")),
    /fits no format known here: peft, adapters, authors/,
  );
  const holes = join(folder, "holes.bin");
  const one = { shape: [3, 12], data: new Float32Array(36) };
  const key = "roberta.encoder.layer.0.output.ExpertSoup.MoA_A.deepspeed_experts";
  writeFileSync(holes, encodePytorch([[`${key}.1.weight`, one]]));
  assert.throws(() => readForeign(holes, BASE), /numbers of experts differ|expert 0 of 2 is missing/);
  assert.throws(
    () => exportAdapter(readForeign(golden("nlu.bin"), BASE), join(folder, "x"), { format: "authors" }),
    /authors is only read here; written are peft, adapters, safetensors/,
  );
});

test("folders with one file of weights are found; a safetensors export comes back with every bit", () => {
  const inside = join(folder, "trainer");
  mkdirSync(inside);
  copyFileSync(golden("nlu.bin"), join(inside, "pytorch_model.bin"));
  assert.is(detectFormat(inside), "authors");
  const file = readForeign(inside, BASE);
  const out = join(folder, "plain");
  exportAdapter(file, out, { format: "safetensors" });
  assert.is(detectFormat(out), "safetensors");
  assert.is(detectFormat(join(out, "adapter.safetensors")), "safetensors");
  const back = readForeign(out);
  assert.equal(back.config, file.config);
  assert.equal([...back.tensors.keys()].sort(), [...file.tensors.keys()].sort());
  for (const [name, { shape, data }] of file.tensors) {
    assert.equal(back.tensors.get(name)?.shape, shape);
    assertBitEqual(back.tensors.get(name)?.data ?? new Float32Array(), data, name);
  }
  assert.throws(() => readForeign(out, { format: "loralib", ...BASE, alpha: 1 }), /it holds no LoRA/);
});

test("merged on the way out: peft and adapters take the mean, plain files keep flat matrices", () => {
  const file = readForeign(golden("nlu.bin"), { ...BASE, model: { type: "roberta", layers: LAYERS } });
  exportAdapter(file, join(folder, "hub"), { format: "adapters", merge: true });
  exportAdapter(file, join(folder, "flat"), { format: "safetensors", merge: true });
  const back = readForeign(join(folder, "flat"));
  assert.equal(back.config.mergedFrom, { experts: 4, share: "up", by: "uniform" });
  assert.is(back.config.peft?.experts, 1);
  const hub = readForeign(join(folder, "hub"), { format: "adapters" });
  for (const [name, { data }] of hub.tensors)
    assertBitEqual(data, back.tensors.get(name)?.data ?? data, name);
});

test.run();
