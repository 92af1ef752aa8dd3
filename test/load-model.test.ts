// Models as folders: old and missing names, heads, halves, shards, round trips, and every refusal.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { decodeSafetensors, encodeSafetensors, FormatError, type TensorToWrite } from "../src/io/index.ts";
import type { SequenceClassifier } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { AdaptationSet, adamixLora, uniformRouter } from "../src/peft/index.ts";
import { describeFresh, loadModel, openModelFolder, saveModel } from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import {
  expectFixture,
  type Fixture,
  type FixtureConfig,
  inputOf,
  loadFixture,
  modelOf,
} from "./tiny-encoder.ts";

const gpu = await testGpu();
const test = suite("models in folders");

const scratch = mkdtempSync(join(tmpdir(), "adamix-models-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
let nFolders = 0;

type ModelFixture = Fixture<{ config: FixtureConfig }>;
const fixtures: readonly ModelFixture[] = ["model_bert", "model_roberta"].map((name) => loadFixture(name));
const [bert, roberta] = fixtures as [ModelFixture, ModelFixture];
const classification = { task: "sequence-classification" } as const;

interface FolderOptions {
  /** The name of a tensor in the file; null: it is left out. */
  readonly name?: (name: string) => string | null;
  readonly config?: object;
  readonly more?: readonly (readonly [string, TensorToWrite])[];
  readonly dtype?: "F32" | "F16";
}

/** A folder with the weights of a fixture. */
function folderOf(
  fixture: ModelFixture,
  { name = (x) => x, config = {}, more = [], dtype = "F32" }: FolderOptions = {},
): string {
  const folder = freshFolder();
  const own = fixture.keys("w/").flatMap((key): [string, TensorToWrite][] => {
    const given = name(key.slice(2));
    const { shape, data } = fixture.floats(key);
    return given === null ? [] : [[given, { dtype, shape, data }]];
  });
  writeFolder(folder, {
    "model.safetensors": encodeSafetensors([...own, ...more], { format: "pt" }),
    "config.json": JSON.stringify({
      ...fixture.json.config,
      model_type: fixture.json.config.model,
      ...config,
    }),
  });
  return folder;
}

function writeFolder(folder: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
}

const freshFolder = (): string => join(scratch, String(nFolders++));

async function refused(action: Promise<unknown>, message: RegExp): Promise<void> {
  const before = liveBytes(gpu);
  let thrown: unknown;
  await action.catch((error: unknown) => {
    thrown = error;
  });
  assert.instance(thrown, FormatError);
  assert.match((thrown as Error).message, message);
  assert.is(liveBytes(gpu), before, "bytes after a refusal");
}

/** Names of checkpoints before LayerNorms were called weight and bias. */
const old = (name: string): string =>
  name.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
const bare = (name: string): string | null =>
  /^(bert|roberta)\./.test(name) ? name.replace(/^(bert|roberta)\./, "") : null;

for (const fixture of fixtures) {
  const { model: type } = fixture.json.config;

  for (const [what, name] of [
    ["its names", (x: string) => x],
    ["gamma and beta", old],
  ] as const) {
    test(`${type} with ${what}: the golden logits, and nothing fresh`, async () => {
      const { model, fresh, source } = await loadModel(gpu, folderOf(fixture, { name }), classification);
      assert.equal([...fresh], []);
      assert.is(describeFresh({ fresh, source }), null);
      await expectFixture(fixture, "out/logits", model.forward(inputOf(gpu, fixture, model)));
      model.dispose();
    });
  }

  test(`${type} without its prefix: the encoder is loaded, the head fresh from the seed`, async () => {
    const folder = folderOf(fixture, { name: bare, config: { architectures: null } });
    const load = (seed: number) => loadModel(gpu, folder, { ...classification, seed });
    const [a, b, c] = [await load(1), await load(1), await load(2)];
    assert.ok(a.fresh.length > 0 && a.fresh.every((name) => name.startsWith("classifier.")));
    assert.match(describeFresh(a) ?? "", /^not in .*, initialised afresh: classifier\./);
    const words = (m: SequenceClassifier) => m.stateDict().get(`${type}.embeddings.word_embeddings.weight`);
    const stored = fixture.floats(`w/${type}.embeddings.word_embeddings.weight`).data;
    assertBitEqual((await words(a.model)?.data()) as Float32Array, stored, "words");
    const headOf = async ({ model }: typeof a) => (await model.head.parameters()[0]?.data()) as Float32Array;
    assertBitEqual(await headOf(a), await headOf(b), "heads of one seed");
    assert.not.equal([...(await headOf(a))], [...(await headOf(c))]);
    assert.ok((await headOf(a)).some((x) => x !== 0));
    for (const { model } of [a, b, c]) model.dispose();
  });

  test(`${type}, masked language model: the golden logits beside ignored heads`, async () => {
    const types = { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) } as const;
    const more = type === "bert" ? [["cls.seq_relationship.bias", types] as const] : [];
    const ids = { dtype: "I64", shape: [1, 2], data: BigInt64Array.of(0n, 1n) } as const;
    const folder = folderOf(fixture, { more: [...more, [`${type}.embeddings.position_ids`, ids]] });
    const { model, fresh } = await loadModel(gpu, folder, { task: "masked-lm" });
    assert.equal([...fresh], []);
    await expectFixture(fixture, "out/mlm_logits", model.forward(inputOf(gpu, fixture, model)));
    model.dispose();
  });

  for (const dtype of ["f32", "f16", "bf16"] as const) {
    test(`${type} in ${dtype}: saved in shards and loaded, every bit is as before`, async () => {
      const first = await loadModel(gpu, folderOf(fixture), { ...classification, dtype });
      const folder = freshFolder();
      const totals: number[] = [];
      const onProgress = ({ bytes, totalBytes }: { bytes: number; totalBytes: number }) =>
        totals.push(totalBytes - bytes);
      await saveModel(folder, first.model, { maxShardBytes: dtype === "f32" ? 20_000 : 10_000, onProgress });
      assert.is(totals.at(-1), 0);
      const shards = readdirSync(folder).filter((name) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name));
      assert.ok(shards.length > 3, shards.join());
      for (const name of shards)
        assert.equal(decodeSafetensors(readFileSync(join(folder, name))).metadata, { format: "pt" });
      const json = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
      assert.equal(json.architectures, [first.model.architecture]);
      assert.equal(json.id2label, { 0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2" });
      const second = await loadModel(gpu, folder, { ...classification, dtype });
      const parameters = second.model.stateDict();
      for (const [name, parameter] of first.model.namedParameters()) {
        const other = parameters.get(name);
        assert.is(other?.dtype, parameter.dtype, name);
        assertBitEqual((await other?.data()) as Float32Array, (await parameter.data()) as Float32Array, name);
      }
      for (const { model } of [first, second]) model.dispose();
    });
  }
}

test("a save in one file takes the place of one in shards, and the other way round", async () => {
  const { model } = await loadModel(gpu, folderOf(bert), classification);
  const folder = freshFolder();
  const weights = () => readdirSync(folder).filter((name) => name !== "config.json");
  await saveModel(folder, model, { maxShardBytes: 40_000 });
  assert.ok(weights().includes("model.safetensors.index.json"));
  await saveModel(folder, model, { config: { transformers_version: "4.0.0", vocab_size: 3 } });
  assert.equal(weights(), ["model.safetensors"]);
  const json = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
  assert.equal([json.transformers_version, json.vocab_size], ["4.0.0", 101]);
  await saveModel(folder, model, { maxShardBytes: 40_000 });
  assert.ok(!weights().includes("model.safetensors"));
  (await loadModel(gpu, folder, classification)).model.dispose();
  model.dispose();
});

test("f16 of an f16 file keeps the file's bits; matrices are frozen and halves, the head is neither", async () => {
  const folder = folderOf(roberta, { dtype: "F16" });
  const { model } = await loadModel(gpu, folder, { ...classification, dtype: "f16" });
  const exact = await loadModel(gpu, folder, classification);
  const widened = exact.model.stateDict();
  for (const [name, parameter] of model.namedParameters()) {
    const isHead = name.startsWith("classifier.");
    assert.is(parameter.dtype, !isHead && parameter.shape.length > 1 ? "f16" : "f32", name);
    assert.is(parameter.requiresGrad, parameter.dtype === "f32", name);
    assertBitEqual(
      (await parameter.data()) as Float32Array,
      (await widened.get(name)?.data()) as Float32Array,
      name,
    );
  }
  const input = inputOf(gpu, roberta, model);
  const logits = (await model.forward(input).data()) as Float32Array;
  // The products are of the same f32 values, in another order of sums.
  assertClose(logits, (await exact.model.forward(input).data()) as Float32Array, {
    atol: 1e-5,
    rtol: 1e-5,
    name: "logits",
  });
  model.dispose();
  exact.model.dispose();
});

test("a model in halves takes the memory of halves: an f32 one is not made on the way", async () => {
  const folder = folderOf(roberta);
  const before = liveBytes(gpu);
  gpu.device.ledger.resetPeaks();
  const { model } = await loadModel(gpu, folder, { ...classification, dtype: "f16" });
  assert.is(
    gpu.device.ledger.scopes().parameters?.peakBytes,
    gpu.device.ledger.scopes().parameters?.liveBytes,
  );
  const matrices = model.parameters().filter(({ dtype }) => dtype === "f16");
  assert.ok(matrices.length > 10);
  model.dispose();
  assert.is(liveBytes(gpu), before);
});

test("the host holds parts of a tensor, never the whole", async () => {
  const folder = freshFolder();
  const config = { ...bert.json.config, vocab_size: 60_000, hidden_size: 256 };
  const large = modelOf(gpu, config, "masked-lm");
  const largest = 60_000 * 256 * 4;
  await saveModel(folder, large);
  large.dispose();
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  let calls = 0;
  const onProgress = () => {
    calls++;
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  };
  const { model } = await loadModel(gpu, folder, { task: "masked-lm", dtype: "f16", onProgress });
  assert.ok(calls > 15, `${calls} parts`);
  assert.ok(most < 1.3 * largest, `${most} bytes of buffers, the largest tensor has ${largest}`);
  model.dispose();
});

test("a name that is neither a folder nor in the cache says both", async () => {
  const hub = { offline: true, cacheFolder: scratch };
  await refused(
    openModelFolder("no-such/model", hub),
    /^model: there is no folder no-such\/model; hub: no-such\/model \(main\) is not in the cache/,
  );
});

test("a new head replaces that of the file, whatever its width", async () => {
  const folder = folderOf(bert);
  await refused(
    loadModel(gpu, folder, { ...classification, overrides: { num_labels: 2 } }),
    /^load .*model\.safetensors: 2 of other shape: classifier\.weight \[3, 32\] vs \[2, 32\] of the model, classifier\.bias/,
  );
  const { model, fresh } = await loadModel(gpu, folder, {
    ...classification,
    newHead: true,
    overrides: { num_labels: 1 },
  });
  assert.equal([...fresh], ["classifier.weight", "classifier.bias"]);
  const logits = model.forward(inputOf(gpu, bert, model));
  assert.equal([...logits.shape], [3, 1]);
  model.dispose();
});

test("a file without BERT's pooler: it is fresh, and told", async () => {
  const folder = folderOf(bert, { name: (name) => (name.startsWith("bert.pooler") ? null : name) });
  const { model, fresh } = await loadModel(gpu, folder, classification);
  assert.equal([...fresh], ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]);
  model.dispose();
});

test("refusals list everything, and leave no memory behind", async () => {
  const stray = { dtype: "F32", shape: [1], data: Float32Array.of(1) } as const;
  const lacking = folderOf(bert, {
    name: (name) => (/layer\.1\.output\.LayerNorm|embeddings\.LayerNorm\.bias/.test(name) ? null : name),
    more: [["qa_outputs.bias", stray]],
  });
  await refused(
    loadModel(gpu, lacking, classification),
    /3 missing: bert\.embeddings\.LayerNorm\.bias, bert\.encoder\.layer\.1\.output\.LayerNorm\.weight, .*; 1 unexpected: qa_outputs\.bias$/,
  );
  const headless = folderOf(roberta, { name: (name) => (name.startsWith("lm_head") ? null : name) });
  await refused(loadModel(gpu, headless, { task: "masked-lm" }), /5 missing: lm_head\.dense\.weight/);
  const twice = folderOf(bert, { more: [["embeddings.LayerNorm.gamma", { ...stray, shape: [1] }]] });
  await refused(
    loadModel(gpu, twice, classification),
    /under a name already taken: bert\.embeddings\.LayerNorm\.weight \(again as/,
  );
  await refused(
    loadModel(gpu, folderOf(bert), { task: "causal-lm" }),
    /^model: bert has no model for causal-lm; it has sequence-classification, masked-lm, and gpt2, llama, qwen2 have causal-lm$/,
  );
  const large = folderOf(bert, {
    name: (name) => (name === "bert.pooler.dense.weight" ? null : name),
    more: [
      [
        "bert.pooler.dense.weight",
        { dtype: "F32", shape: [32, 32], data: new Float32Array(1024).fill(70_000) },
      ],
    ],
  });
  await refused(
    loadModel(gpu, large, { ...classification, dtype: "f16" }),
    /bert\.pooler\.dense\.weight: value 70000 at \[0\] is beyond the largest half/,
  );
});

test("a config that is not known is refused by name", async () => {
  const cases: readonly [object, RegExp][] = [
    [{ model_type: "t5" }, /config\.json: config: model_type is "t5"; supported: "bert", /],
    [{ model_type: null }, /config\.json: config: no "model_type"; supported: "bert", /],
    [
      { architectures: ["BertForQuestionAnswering"] },
      /architectures is \["BertForQuestionAnswering"\]; supported: BertModel, BertForPreTraining, /,
    ],
    [{ hidden_act: "mish" }, /config\.json: config: hidden_act is "mish"/],
    [{ classifier_pooling: "mean" }, /classifier_pooling is "mean"; supported: "cls"/],
  ];
  for (const [config, message] of cases) await refused(openModelFolder(folderOf(bert, { config })), message);
  await refused(
    openModelFolder(join(scratch, "none")),
    /^model: no config\.json in .*none \(expected a folder/,
  );
});

test("positions of BERT end where the model's do, but for padding", () => {
  const model = modelOf(gpu, bert.json.config, "sequence-classification"); // positions for 17 tokens, padding is 0
  const row = (tokens: number, length: number) => Int32Array.from({ length }, (_, i) => (i < tokens ? 5 : 0));
  assert.equal([...model.positionsOf(row(2, 4), 4)], [0, 1, 2, 3]);
  assert.is(model.positionsOf(row(17, 24), 24)[23], 16);
  assert.throws(
    () => model.positionsOf(row(18, 24), 24),
    /bert: a sequence of at least 18 tokens; .* positions for 17/,
  );
  model.dispose();
});

test("a mixture trains on a model in halves, whose bytes stay", async () => {
  const { model } = await loadModel(gpu, folderOf(bert), { ...classification, dtype: "f16" });
  model.setRequiresGrad(false);
  model.head.setRequiresGrad(true);
  const set = new AdaptationSet(gpu, model, adamixLora({ rank: 2 }), { stream: Stream.seed(1) });
  initBertWeights(model.head, Stream.seed(3), 0.3);
  set.routes.draw(uniformRouter(Stream.seed(2)), { step: 0, passes: 1 });
  const loss = model.forward(inputOf(gpu, bert, model)).sum();
  loss.backward();
  assert.ok(set.parameters().some(({ grad }) => grad !== null));
  assert.ok(model.encoder.parameters().every(({ grad }) => grad === null));
  set.dispose();
  model.dispose();
});

test.run();
