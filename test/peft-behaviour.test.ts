// What single methods do, against the same thing said in another way.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import {
  BertForSequenceClassification,
  parseBertConfig,
  type SequenceClassifier,
} from "../src/models/index.ts";
import { countParameters, type LinearSite } from "../src/nn/index.ts";
import {
  AdaptationSet,
  adapter,
  bitFit,
  houlsby,
  lora,
  type PeftMethod,
  prefix,
  topLayers,
  unipelt,
} from "../src/peft/index.ts";
import { fineTune } from "../src/train/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attachTo, bytesOf, modelFamilies, peftTable, scramble, type TestModel } from "./peft.table.ts";
import { familyOf } from "./peft-families.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;
async function logitsOf(model: TestModel): Promise<Float32Array> {
  const logits = model.forward();
  const values = await floats(logits);
  logits.dispose();
  return values;
}

type Bytes = Awaited<ReturnType<typeof bytesOf>>;

const test = suite("single methods");

const COMBINED = { adapter: { bottleneck: 3 }, prefix: { tokens: 2 }, lora: { rank: 2 } };

test("gates that are open make of UniPELT its parts side by side, closed ones nothing", async () => {
  for (const { name } of modelFamilies) {
    const model = familyOf(name);
    const base = await logitsOf(model);
    const set = scramble(attachTo(model, unipelt(COMBINED), "all"));
    const values = new Map(set.namedParameters());
    const setGates = (bias: number): void => {
      for (const [key, parameter] of values) {
        if (key.endsWith("gate.weight.weight")) parameter.write(new Float32Array(parameter.size));
        else if (/gate\.(weight\.)?bias$/.test(key)) parameter.write(new Float32Array(1).fill(bias));
      }
    };
    setGates(40);
    const together = await logitsOf(model);
    setGates(-90);
    set.detach();
    const parts: PeftMethod[] = [adapter(COMBINED.adapter), prefix(COMBINED.prefix), lora(COMBINED.lora)];
    for (const method of parts) {
      const part = attachTo(model, method, method.name);
      for (const [key, parameter] of part.namedParameters()) {
        const source = values.get(key.replace(`.${method.name}.`, ".unipelt.part."));
        if (!source) throw new Error(`unipelt has nothing like ${key}`);
        parameter.write((await floats(source)) as Float32Array<ArrayBuffer>);
      }
    }
    assertClose(await logitsOf(model), together, { atol: 1e-5, rtol: 1e-5, name: `${name}: open gates` });
    for (const site of model.model.sites()) for (const { name: own } of parts) site.detach(own);
    set.attach();
    // A prefix of zero keys and values still takes a share of the attention.
    const closed = await logitsOf(model);
    const zero = attachTo(model, prefix({ tokens: 2 }), "zero");
    for (const parameter of zero.parameters()) parameter.write(new Float32Array(parameter.size));
    set.detach();
    assertClose(closed, await logitsOf(model), { atol: 1e-5, rtol: 1e-5, name: `${name}: closed gates` });
    zero.detach();
    assertBitEqual(await logitsOf(model), base, `${name}: the base`);
    model.model.dispose();
  }
});

test("one gate of LoRA serves query and value of a layer", () => {
  const model = familyOf("RoBERTa classification");
  const names = [...attachTo(model, unipelt({ lora: { rank: 1 } })).namedParameters()].map(([name]) => name);
  assert.equal(
    names.filter((name) => name.includes(".gate.")).map((name) => name.replace(/^.*layer/, "layer")),
    [0, 1].flatMap((i) =>
      ["weight", "bias"].map((part) => `layer.${i}.attention.self.query.unipelt.gate.weight.${part}`),
    ),
  );
  model.model.dispose();
});

test("rank-stabilised LoRA has the scale alpha / √rank", async () => {
  const model = familyOf("Llama");
  const stable = scramble(attachTo(model, lora({ rank: 4, alpha: 3, rankStabilised: true })));
  const expected = await logitsOf(model);
  stable.detach();
  const usual = scramble(attachTo(model, lora({ rank: 4, alpha: 6 })));
  assertBitEqual(await logitsOf(model), expected, "logits");
  for (const thing of [usual, stable, model.model]) thing.dispose();
});

test("dropout of LoRA acts on the update alone, and where a draw is passed", async () => {
  const model = familyOf("GPT-2");
  const set = scramble(attachTo(model, lora({ rank: 2, dropout: 0.5, targets: ["feedForwardInner"] })));
  const without = await logitsOf(model);
  const clock = tensor(gpu, Uint32Array.of(3, 0));
  const draw = { stream: Stream.seed(3), clock, examples: 3 };
  const dropped = await floats(model.forward({ draw }));
  assert.ok(dropped.some((value, i) => Math.abs(value - (without[i] as number)) > 1e-3));
  assertBitEqual(await floats(model.forward({ draw })), dropped, "the same draw");
  for (const parameter of set.parameters()) parameter.write(new Float32Array(parameter.size));
  assertBitEqual(await floats(model.forward({ draw })), await logitsOf(model), "an update of zero");
  model.model.dispose();
});

test("targets by role find the same layers in every family, and names find them too", () => {
  const layers = (model: TestModel, targets: readonly string[]): string[] => {
    const set = attachTo(model, lora({ rank: 1, targets }));
    const names = [...set.namedParameters()].map(([name]) => name.replace(/\.lora\.lora_.*/, ""));
    set.dispose();
    return [...new Set(names)].filter((name) => name.includes(".0."));
  };
  const named = {
    "RoBERTa classification": ["roberta.encoder.layer.0.attention.output.dense", "attention.output.dense"],
    "BERT classification": ["bert.encoder.layer.0.attention.output.dense", "attention.output.dense"],
    "GPT-2": ["transformer.h.0.attn.c_proj", "attn.c_proj"],
    Llama: ["model.layers.0.self_attn.o_proj", "o_proj"],
  } as const;
  for (const [name, [site, pattern]] of Object.entries(named)) {
    const model = familyOf(name);
    assert.equal(layers(model, ["attentionOutput"]), [site]);
    assert.equal(layers(model, [pattern]), [site]);
    model.model.dispose();
  }
});

test("adapters take the activation of the model where none is given", async () => {
  for (const [name, activation] of [
    ["BERT classification", "gelu"],
    ["GPT-2", "geluTanh"],
    ["Llama", "silu"],
  ] as const) {
    const model = familyOf(name);
    const own = scramble(attachTo(model, adapter({ bottleneck: 3 })));
    const expected = await logitsOf(model);
    own.detach();
    scramble(attachTo(model, adapter({ bottleneck: 3, activation })));
    assertBitEqual(await logitsOf(model), expected, name);
    model.model.dispose();
  }
});

test("an adapter after a linear layer's slice cannot change what the slice reads", () => {
  const model = familyOf("GPT-2");
  const site = model.model.sites().find(({ role }) => role === "query") as LinearSite;
  assert.throws(
    () => site.attachInput("mine", (x) => x),
    /c_attn.query: its input is that of other slices too/,
  );
  model.model.dispose();
});

test("BitFit trains the biases of BERT-base, 102,912 numbers, and top layers the last ones", () => {
  const config = parseBertConfig({
    model_type: "bert",
    vocab_size: 30_522,
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    intermediate_size: 3072,
    max_position_embeddings: 512,
    type_vocab_size: 2,
  });
  const model = new BertForSequenceClassification(gpu, config).setRequiresGrad(false);
  const training = (): number => countParameters(model.encoder.parameters().filter((p) => p.requiresGrad));
  const biases = new AdaptationSet(gpu, model, bitFit(), { stream: Stream.seed(1) });
  assert.is(training(), 102_912);
  biases.detach();
  assert.is(training(), 0);
  new AdaptationSet(gpu, model, topLayers({ layers: 2 }), { stream: Stream.seed(1) });
  assert.is(training(), 2 * countParameters(model.bert.encoder.layer[0]?.parameters() ?? []));
  assert.is(
    model.bert.encoder.layer[9]?.parameters().some((p) => p.requiresGrad),
    false,
  );
  model.dispose();
});

for (const { name, build } of modelFamilies) {
  test(`${name}: every method on a base in f16 comes near itself on f32, and trains in f32`, async () => {
    for (const row of peftTable) {
      if (!row.adds || row.plain) continue;
      const model = build();
      const set = scramble(attachTo(model, row.make()));
      const exact = await logitsOf(model);
      model.model.to("f16");
      const logits = model.forward();
      assertClose(await floats(logits), exact, { atol: 0.03, name: row.name }); // f16 rounds by 5e-4
      tidy(() => model.loss(logits).backward());
      for (const parameter of set.parameters()) assert.is(parameter.grad?.dtype, "f32", row.name);
      for (const thing of [set, model.model]) thing.dispose();
    }
  });
}

test("steps that are replayed train every method to the same bytes as steps that are recorded", async () => {
  const train = Array.from({ length: 6 }, (_, i) => ({
    ids: Int32Array.from({ length: 3 + (i % 3) }, (_, t) => 2 + ((5 * i + 3 * t) % 15)),
    label: i % 3,
  }));
  const roberta = modelFamilies[0] as (typeof modelFamilies)[number];
  for (const row of peftTable.filter(({ once }) => !once)) {
    const [replayed, recorded] = [true, false].map(async (capture) => {
      const { model } = roberta.build({ dropout: 0.1 });
      const set = new AdaptationSet(gpu, model, row.make(), { stream: Stream.seed(1) });
      const settings = { train, steps: 4, batchSize: 3, lr: 0.01, seed: 2, multiple: 5, capture };
      await fineTune(gpu, model as SequenceClassifier, set, settings); // the first family's is one
      const bytes = await bytesOf([...model.namedParameters(), ...set.namedParameters()]);
      for (const thing of [set, model]) thing.dispose();
      return bytes;
    }) as [Promise<Bytes>, Promise<Bytes>];
    const expected = await recorded;
    for (const [name, values] of await replayed)
      assertBitEqual(values, expected.get(name) as Float32Array, `${row.name}: ${name}`);
  }
});

test("what trains of the base must be there, and be f32", () => {
  const model = familyOf("Llama");
  const names = { sites: () => model.model.sites() };
  const make = (base: typeof names): AdaptationSet =>
    new AdaptationSet(gpu, base, bitFit(), { stream: Stream.seed(1) });
  assert.throws(() => make(names), /bitFit: the model has no names for its parameters/);
  const weights = [...model.model.namedParameters()].filter(([name]) => name.endsWith("weight"));
  const unbiased = { ...names, namedParameters: () => weights };
  assert.throws(
    () => make(unbiased),
    /bitFit: the model has no parameter that it trains; use another method/,
  );
  model.model.to("f16");
  assert.throws(
    () => attachTo(model, topLayers({ layers: 1 })),
    /topLayers: model.layers.1.self_attn.q_proj.weight is f16; what trains needs f32/,
  );
  model.model.dispose();
});

test("an adapter of Houlsby beside a mixture: both sites of a layer share its draw", () => {
  const model = familyOf("BERT classification");
  const set = attachTo(model, houlsby({ bottleneck: 2, experts: 3 }));
  assert.equal(set.method.experts, { down: 3, up: 1 });
  const sites = set.parts.filter(({ site }) => site.layer === 0).map(({ site }) => site.role);
  assert.equal(sites, ["attention", "feedForward"]);
  model.model.dispose();
});

test.run();
