// Folding into the base: what a set did, the base does by itself, and back again to the bit.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import {
  AdaptationSet,
  adapter,
  foldIntoBase,
  full,
  ia3,
  lora,
  type PeftMethod,
  prefix,
  prompt,
  softRouter,
} from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { attachTo, bytesOf, modelFamilies, scramble, type TestModel } from "./peft.table.ts";

const gpu = await testGpu();
const test = suite("folding into the base");

async function logitsOf(model: TestModel): Promise<Float32Array> {
  const logits = model.forward();
  const values = (await logits.data()) as Float32Array;
  logits.dispose();
  return values;
}

const METHODS: Readonly<Record<string, PeftMethod>> = {
  lora: lora({ rank: 2, alpha: 3 }),
  "lora everywhere": lora({
    rank: 2,
    rankStabilised: true,
    targets: ["query", "key", "value", "attentionOutput", "feedForwardInner", "feedForwardOutput"],
  }),
  ia3: ia3(),
};

for (const family of modelFamilies) {
  for (const [name, method] of Object.entries(METHODS)) {
    test(`${family.name}, ${name}: the same logits without the set, and the base's bytes back`, async () => {
      const model = family.build();
      const set = scramble(attachTo(model, method));
      const [adapted, before] = [await logitsOf(model), await bytesOf(model.model.namedParameters())];
      const live = liveBytes(gpu);
      const folded = foldIntoBase(set);
      assert.is(set.isAttached, false);
      const alone = await logitsOf(model);
      assertClose(alone, adapted, { atol: 2e-5, rtol: 2e-5, name: "logits of the folded base" });
      folded.unfold();
      folded.unfold();
      for (const [key, values] of await bytesOf(model.model.namedParameters()))
        assertBitEqual(values, before.get(key) as Float32Array, key);
      assertBitEqual(await logitsOf(model), adapted, "logits with the set again");
      assert.is(liveBytes(gpu), live);
      set.dispose();
      model.model.dispose();
    });
  }
}

const [family] = modelFamilies;

const refused: readonly [what: string, method: PeftMethod, message: RegExp][] = [
  ["an adapter", adapter({ bottleneck: 2 }), /method adapter: an activation stands between its two products/],
  [
    "a prefix",
    prefix({ tokens: 1 }),
    /method prefix: it adds keys and values to texts; keep the set attached/,
  ],
  ["a prompt", prompt({ tokens: 1 }), /method prompt: it adds tokens to texts/],
  ["full fine-tuning", full(), /method full: it adds nothing to the base/],
  [
    "a mixture",
    lora({ rank: 1, experts: 2 }),
    /set "default" has experts to choose from; merge them first, with mergeExperts/,
  ],
];
for (const [what, method, message] of refused) {
  test(`${what} is refused, and the base keeps its bytes`, async () => {
    const model = (family as NonNullable<typeof family>).build();
    const set = scramble(attachTo(model, method));
    const before = await bytesOf(model.model.namedParameters());
    assert.throws(() => foldIntoBase(set), message);
    assert.is(set.isAttached, true);
    for (const [key, values] of await bytesOf(model.model.namedParameters()))
      assertBitEqual(values, before.get(key) as Float32Array, key);
    set.dispose();
    model.model.dispose();
  });
}

test("a site where another set is attached, and a base in 16 bits, are refused", () => {
  const model = (family as NonNullable<typeof family>).build();
  const set = attachTo(model, lora({ rank: 1 }), "first");
  const other = attachTo(model, ia3(), "second");
  const taken = /value" has "second" attached beside "first"; detach or fold that first/;
  assert.throws(() => foldIntoBase(set), taken);
  other.dispose();
  model.model.to("f16");
  assert.throws(
    () => foldIntoBase(set),
    /query" is f16, which would round the change away; load the base as f32/,
  );
  set.dispose();
  model.model.dispose();
});

test("experts that a router weighs are refused", () => {
  const model = (family as NonNullable<typeof family>).build();
  const method = lora({ rank: 1, experts: 2 });
  const set = new AdaptationSet(gpu, model.model, method, { stream: Stream.seed(1), router: softRouter() });
  assert.throws(() => foldIntoBase(set), /the router of set "default" weighs experts for every token/);
  for (const thing of [set, model.model]) thing.dispose();
});

test("merged experts fold as one LoRA", async () => {
  const model = (family as NonNullable<typeof family>).build();
  const mixture = scramble(attachTo(model, lora({ rank: 2, experts: 3 })));
  const merged = mixture.mergeExperts(model.model, Stream.seed(3));
  mixture.detach();
  merged.attach();
  const adapted = await logitsOf(model);
  foldIntoBase(merged);
  assertClose(await logitsOf(model), adapted, { atol: 2e-5, rtol: 2e-5, name: "logits" });
  for (const thing of [merged, mixture, model.model]) thing.dispose();
});

test.run();
