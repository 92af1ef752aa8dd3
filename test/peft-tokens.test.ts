// Prompts and prefixes: virtual tokens against real ones, in caches, and where there is no room.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { embedding, noGrad, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { Gpt2LMHeadModel, generate, LlamaForCausalLM, type SequenceClassifier } from "../src/models/index.ts";
import { EmbeddedSite, KeysValuesSite, LinearSite } from "../src/nn/index.ts";
import {
  AdaptationSet,
  fixedRouter,
  ModuleMean,
  prefix,
  prompt,
  type Router,
  uniformRouter,
  unipelt,
} from "../src/peft/index.ts";
import type { Prefix } from "../src/peft/prefix.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attachTo, LONGEST, modelFamilies, scramble } from "./peft.table.ts";
import { familyOf } from "./peft-families.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;

const test = suite("virtual tokens");

const FRONT = Int32Array.of(5, 3);

/** ids [rows, length] with FRONT before each row, and positions first, first + 1, ... */
function inFront(
  ids: Int32Array,
  length: number,
  first: number,
): { ids: Tensor; positions: Tensor; mask: Tensor } {
  const rows = ids.length / length;
  const all = length + FRONT.length;
  const longer = new Int32Array(rows * all);
  for (let row = 0; row < rows; row++) {
    longer.set(FRONT, row * all);
    longer.set(ids.subarray(row * length, (row + 1) * length), row * all + FRONT.length);
  }
  const positions = longer.map((_, i) => first + (i % all));
  return {
    ids: tensor(gpu, longer, [rows, all]),
    positions: tensor(gpu, positions, [rows, all]),
    mask: tensor(gpu, new Int32Array(longer.length).fill(1), [rows, all]),
  };
}

for (const [name, first] of [
  ["RoBERTa classification", 2],
  ["BERT classification", 0],
  ["GPT-2", 0],
  ["Llama", 0],
] as const) {
  test(`${name}: a prompt of words is those words before the text, without their outputs`, async () => {
    const { model } = familyOf(name);
    const length = LONGEST - 2;
    // Ids without padding: from 2 on.
    const ids = Int32Array.from({ length: 2 * length }, (_, i) => 2 + ((7 * i) % 15));
    const text = {
      ids: tensor(gpu, ids, [2, length]),
      mask: tensor(gpu, new Int32Array(ids.length).fill(1), [2, length]),
    };
    const positions = tensor(
      gpu,
      ids.map((_, i) => first + (i % length)),
      [2, length],
    );
    const longer = inFront(ids, length, first);
    const hidden = (inputIds: Tensor, positionIds: Tensor, attentionMask: Tensor): Tensor => {
      const input = { inputIds, positionIds, attentionMask, poolingWeights: null };
      if (model instanceof Gpt2LMHeadModel || model instanceof LlamaForCausalLM) return model.hidden(input);
      if (!("encoder" in model)) throw new Error(`${name} has no encoder`);
      return (model.encoder as { forward(given: typeof input): Tensor }).forward(input);
    };
    const whole = hidden(longer.ids, longer.positions, longer.mask);
    const expected = await floats(whole.slice(1, FRONT.length, longer.ids.shape[1] as number).contiguous());
    const set = new AdaptationSet(gpu, model, prompt({ tokens: FRONT.length }), { stream: Stream.seed(1) });
    const site = model.sites().find((one) => one instanceof EmbeddedSite) as EmbeddedSite;
    const rows = noGrad(() => embedding(site.words, tensor(gpu, FRONT)));
    set.parameters()[0]?.write((await floats(rows)) as Float32Array<ArrayBuffer>);
    const actual = hidden(text.ids, positions, text.mask);
    assert.equal(actual.shape, [2, length, site.channels]);
    assertClose(await floats(actual), expected, {
      atol: 2e-5,
      rtol: 2e-5,
      name: "hidden states of the text",
    });
    set.dispose();
    model.dispose();
  });
}

test("GPT-2: a prefix of the keys and values of tokens is those tokens before the text", async () => {
  const { model } = familyOf("GPT-2");
  if (!(model instanceof Gpt2LMHeadModel)) throw new Error("another model");
  const ids = Int32Array.of(4, 9, 2, 11);
  const longer = inFront(ids, 4, 0);
  const whole = model.hidden({ inputIds: longer.ids, positionIds: longer.positions, attentionMask: null });
  const expected = await floats(whole.slice(1, 2, 6).contiguous());
  // What the two tokens have for keys and values in each layer.
  const seen = new Map<string, Promise<Float32Array>>();
  const linear = model.sites().filter((site) => site instanceof LinearSite);
  const watched = linear.filter(({ role }) => role === "key" || role === "value");
  for (const site of watched)
    site.attach("watch", (y) => {
      seen.set(`${site.layer} ${site.role}`, floats(y.contiguous()));
      return y;
    });
  const front = {
    inputIds: tensor(gpu, FRONT, [1, 2]),
    positionIds: tensor(gpu, Int32Array.of(0, 1), [1, 2]),
  };
  model.hidden({ ...front, attentionMask: null });
  for (const site of watched) site.detach("watch");
  const set = new AdaptationSet(gpu, model, prefix({ tokens: 2 }), { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters()) {
    const key = `${/h\.(\d+)/.exec(name)?.[1]} ${name.endsWith("keys") ? "key" : "value"}`;
    parameter.write((await seen.get(key)) as Float32Array<ArrayBuffer>);
  }
  const after = {
    inputIds: tensor(gpu, ids, [1, 4]),
    positionIds: tensor(gpu, Int32Array.of(2, 3, 4, 5), [1, 4]),
  };
  const actual = model.hidden({ ...after, attentionMask: null });
  assertClose(await floats(actual), expected, { atol: 2e-5, rtol: 2e-5, name: "hidden states of the text" });
  set.dispose();
  model.dispose();
});

const COMBINED = { adapter: { bottleneck: 3 }, prefix: { tokens: 2 }, lora: { rank: 2 } };

for (const name of ["GPT-2", "Llama"]) {
  for (const [kind, method] of [
    ["prompt", prompt({ tokens: 2 })],
    ["prefix", prefix({ tokens: 2 })],
    ["unipelt", unipelt(COMBINED)],
  ] as const) {
    test(`${name}, ${kind}: texts of several lengths grow the same with a cache and without`, async () => {
      const { model } = familyOf(name);
      if (!(model instanceof Gpt2LMHeadModel || model instanceof LlamaForCausalLM))
        throw new Error("another");
      const set = scramble(new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) }));
      const sampling = { stream: Stream.seed(2), temperature: 2 };
      const prompts = [
        [3, 4, 5],
        [6, 2],
      ];
      const [cached, plain] = await Promise.all(
        [true, false].map((cache) => generate(model, prompts, { maxNew: 4, cache, sampling })),
      );
      assert.equal(cached, plain);
      set.dispose();
      const without = await generate(model, prompts, { maxNew: 4, sampling });
      assert.not.equal(cached, without, "the method changes nothing");
      model.dispose();
    });
  }
}

test("texts that have no room beside a prompt are refused, padding may go beyond", async () => {
  for (const { name, build } of modelFamilies) {
    const model = build();
    const set = attachTo(model, prompt({ tokens: 4 }));
    const { model: inner } = model;
    if ("positionsOf" in inner) {
      const encoder = inner as SequenceClassifier;
      const positionsOf = (ids: Int32Array) => encoder.positionsOf(ids, 7);
      const [whole, padded] = [new Int32Array(7).fill(5), new Int32Array(7).fill(5)];
      padded[6] = encoder.config.pad_token_id;
      assert.throws(() => positionsOf(whole), /positions for 6 beside 4 virtual ones/, name);
      const logits = encoder.forward({
        inputIds: tensor(gpu, padded, [1, 7]),
        positionIds: tensor(gpu, positionsOf(padded), [1, 7]),
        attentionMask: tensor(gpu, Int32Array.of(1, 1, 1, 1, 1, 1, 0), [1, 7]),
        poolingWeights: null,
      });
      assert.ok((await floats(logits)).every(Number.isFinite), name);
    } else {
      assert.throws(
        () => model.forward(),
        /prompt: 4 virtual tokens and a batch of length 7; .* for 10 \(cut texts/,
      );
    }
    set.dispose();
    model.model.dispose();
  }
});

test("the mean of a prefix's modules is a prefix of their mean keys and values", async () => {
  const { model } = familyOf("GPT-2");
  const ids = tensor(gpu, Int32Array.of(4, 9, 2), [1, 3]);
  const positions = tensor(gpu, Int32Array.of(0, 1, 2), [1, 3]);
  const input = { inputIds: ids, positionIds: positions, attentionMask: null };
  const logitsNow = (): Promise<Float32Array> => floats((model as Gpt2LMHeadModel).forward(input));
  const stream = Stream.seed(1);
  const mixed = scramble(
    new AdaptationSet(gpu, model, prefix({ tokens: 2, bottleneck: 3, experts: 2 }), { stream }),
  );
  mixed.routing = new ModuleMean(gpu, mixed.method.experts);
  const expected = await logitsNow();
  mixed.detach();
  const plain = new AdaptationSet(gpu, model, prefix({ tokens: 2 }), { stream });
  const values = new Map(plain.namedParameters());
  const routes = [0, 1].map((j) => tensor(gpu, Int32Array.of(j)));
  for (const { site, module } of mixed.parts) {
    const each = routes.map((route) =>
      (module as Prefix).rows(tensor(gpu, new Float32Array(8), [1, 1, 8]), site.layer, (_, side) =>
        side === "down" ? route : null,
      ),
    );
    for (const key of ["keys", "values"] as const) {
      const [first, second] = each.map((rows) => rows[key]) as [Tensor, Tensor];
      const mean = (await floats(first.add(second).mul(0.5))) as Float32Array<ArrayBuffer>;
      values.get(`${site.name}.prefix.${key}`)?.write(mean);
    }
  }
  assertClose(await logitsNow(), expected, { atol: 1e-5, rtol: 1e-5, name: "logits" });
  for (const thing of [plain, mixed, model]) thing.dispose();
});

test("routes of a prefix are of texts, those of tokens are refused", async () => {
  const model = familyOf("BERT classification");
  const set = scramble(attachTo(model, prefix({ tokens: 2, bottleneck: 3, experts: 3 })));
  const draw = (router: Router, groups: number, tokens: number): void =>
    set.routes.draw(router, { step: 0, passes: 1, groups, tokens });
  const logits = async (): Promise<Float32Array> => floats(model.forward());
  // Each text alone through its expert, and all at once.
  const alone: Float32Array[] = [];
  for (let j = 0; j < 3; j++) {
    draw(fixedRouter(j), 1, 1);
    alone.push((await logits()).slice(3 * j, 3 * j + 3));
  }
  draw(({ group, experts }) => Math.min(group, experts - 1), 3, 1);
  const together = await logits();
  for (const [j, values] of alone.entries())
    assertClose(together.slice(3 * j, 3 * j + 3), values, { atol: 1e-6, rtol: 1e-6, name: `text ${j}` });
  draw(uniformRouter(Stream.seed(1)), 3, LONGEST);
  assert.throws(
    () => model.forward(),
    /prefix: 21 routes for 3 texts; a prefix is of a text, not of a token/,
  );
  for (const thing of [set, model.model]) thing.dispose();
});

test("keys and values in front are as many in a cache as without", async () => {
  const { model } = familyOf("Llama");
  const [site] = model.sites().filter((one) => one instanceof KeysValuesSite);
  if (!site) throw new Error("no site");
  const rows = (n: number, value: number): Tensor =>
    tensor(gpu, new Float32Array(n * 4).fill(value), [1, n, 4]);
  site.attach("one", () => ({ keys: rows(1, 1), values: rows(1, 2) }));
  site.attach("two", () => ({ keys: rows(2, 3), values: rows(2, 4) }));
  const mask = tensor(gpu, Int32Array.of(0, 1, 1), [1, 3]);
  const all = tidy(() =>
    site.apply({ keys: rows(3, 5), values: rows(3, 6), mask, keyLength: 2 }, rows(1, 0), {}),
  );
  assert.is(all.keyLength, 5);
  assertBitEqual(
    await floats(all.keys.slice(2, 0, 1).contiguous()),
    Float32Array.of(3, 3, 1, 5, 5, 5),
    "keys",
  );
  assert.equal([...(await (all.mask as Tensor).data())], [1, 1, 1, 0, 1, 1]);
  for (const name of ["one", "two"]) site.detach(name);
  model.dispose();
});

test.run();
