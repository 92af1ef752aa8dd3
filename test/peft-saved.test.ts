// Adapters in folders: every method is written, and read into a model that knows nothing of it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import type { SequenceClassifier } from "../src/models/index.ts";
import type { AdaptationSet } from "../src/peft/index.ts";
import { givenRouter } from "../src/peft/index.ts";
import { loadAdapter, saveAdapter } from "../src/train/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attachTo, bytesOf, modelFamilies, peftTable, type TestModel } from "./peft.table.ts";

const gpu = await testGpu();
const test = suite("adapters in folders");
const [family] = modelFamilies as [(typeof modelFamilies)[number]];
const classifier = ({ model }: TestModel): SequenceClassifier => model as SequenceClassifier; // the first family's is one

const routes = [
  [1, 2],
  [2, 0],
] as const;

async function logitsOf(model: TestModel, set: AdaptationSet | null): Promise<Float32Array> {
  if (set?.isMixture) {
    const { down, up } = set.method.experts;
    const own = routes.map(([j, k]): [number, number] => [Math.min(j, down - 1), Math.min(k, up - 1)]);
    set.routes.draw(givenRouter([own]), { step: 0, passes: 1 });
  }
  return (await model.forward().data()) as Float32Array;
}

for (const row of peftTable) {
  test(`${row.name}: saved, loaded, the same logits to the bit, and what is frozen as it was`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "adamix-adapter-"));
    const [model, other] = [family.build(), family.build()];
    try {
      const frozen = await bytesOf(other.model.namedParameters());
      const set = attachTo(model, row.make());
      const own = [...model.model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad);
      for (const [name, parameter] of [...own, ...set.namedParameters()])
        parameter.write(Stream.seed(7).fold(name).normal(parameter.size, 0.1, 0.4));
      const expected = await logitsOf(model, set);
      const place = join(folder, "adapter");
      await saveAdapter(place, classifier(model), set, { base: "tiny", labels: ["a", "b", "c"] });
      const loaded = loadAdapter(gpu, classifier(other), place);
      assertBitEqual(await logitsOf(other, loaded), expected, "logits");
      const changed = new Set(own.map(([name]) => name));
      for (const [name, values] of await bytesOf(other.model.namedParameters()))
        if (!changed.has(name)) assertBitEqual(values, frozen.get(name) as Float32Array, name);
      for (const thing of [set, loaded]) thing?.dispose();
    } finally {
      rmSync(folder, { recursive: true });
      for (const { model: built } of [model, other]) built.dispose();
    }
  });
}

test("folders without a method, as head and full were saved before they were methods, are read too", async () => {
  const folder = mkdtempSync(join(tmpdir(), "adamix-adapter-"));
  const [model, other] = [family.build(), family.build()];
  for (const parameter of model.head) parameter.write(Stream.seed(2).normal(parameter.size, 0, 1));
  const place = join(folder, "adapter");
  await saveAdapter(place, classifier(model), null, { base: "tiny", labels: ["a", "b", "c"] });
  const config = join(place, "adapter_config.json");
  assert.is(JSON.parse(readFileSync(config, "utf8")).peft, null);
  assert.is(loadAdapter(gpu, classifier(other), place), null);
  assertBitEqual(await logitsOf(other, null), await logitsOf(model, null), "logits");
  writeFileSync(config, JSON.stringify({ peft: { method: "wings" }, labels: ["a"] }));
  assert.throws(
    () => loadAdapter(gpu, classifier(other), place),
    /method "wings" is not one of adapter, bitFit/,
  );
  rmSync(folder, { recursive: true });
  for (const { model: built } of [model, other]) built.dispose();
});

test.run();
