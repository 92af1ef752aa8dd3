// Methods without experts against goldens, on every encoder.
import { suite } from "uvu";
import { crossEntropy, Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import { AdaptationSet, houlsby, lora, type PeftMethod, pfeiffer } from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames } from "./fixtures.ts";
import {
  expectFixture,
  type FixtureConfig,
  frozenClassifier,
  inputOf,
  loadFixture,
  trainedOf,
} from "./tiny-encoder.ts";

const gpu = await testGpu();
const test = suite("methods against goldens");

interface PeftJson {
  readonly config: FixtureConfig;
  readonly peft: { readonly bottleneck: number; readonly rank: number; readonly alpha: number };
}

interface Kind {
  readonly method: (peft: PeftJson["peft"]) => PeftMethod;
  /** The fixture's name of a set's parameter. */
  readonly key: (name: string) => string;
}

const KINDS: Readonly<Record<string, Kind>> = {
  houlsby: { method: ({ bottleneck }) => houlsby({ bottleneck }), key: adapterKey },
  pfeiffer: { method: ({ bottleneck }) => pfeiffer({ bottleneck }), key: adapterKey },
  lora: {
    method: ({ rank, alpha }) => lora({ rank, alpha }),
    key: (name) => {
      const [, layer, part, matrix] =
        /layer\.(\d+)\.attention\.self\.(\w+)\.lora\.lora_(A|B)\./.exec(name) ?? [];
      return `layer.${layer}.${part}.${matrix}`;
    },
  },
};

function adapterKey(name: string): string {
  const [, layer, attention, part] = /layer\.(\d+)\.(attention\.)?output\.adapter\.(.*)$/.exec(name) ?? [];
  return `layer.${layer}.${attention ? "attn" : "ffn"}_adapter.${part}`;
}

for (const [kind, { method, key }] of Object.entries(KINDS)) {
  for (const name of ["roberta", "bert"].flatMap((model) => fixtureNames(`peft_${model}_${kind}`))) {
    const fixture = loadFixture<PeftJson>(name);
    test(`${name}: logits, loss and every gradient`, async () => {
      const base = loadFixture<{ config: FixtureConfig }>(`model_${fixture.json.config.model}`);
      const model = frozenClassifier(gpu, base);
      const set = new AdaptationSet(gpu, model, method(fixture.json.peft), { stream: Stream.seed(1) });
      for (const [path, parameter] of set.namedParameters())
        parameter.write(Float32Array.from(fixture.floats(`p/${key(path)}`).data));
      const logits = model.forward(inputOf(gpu, base, model));
      await expectFixture(fixture, "out/logits", logits);
      const loss = crossEntropy(logits, tensor(gpu, Int32Array.from(base.ints("in/labels").data)));
      await expectFixture(fixture, "out/loss", loss);
      loss.backward();
      for (const [path, parameter] of set.namedParameters())
        await expectFixture(fixture, `pgrad/${key(path)}`, parameter.grad as Tensor);
      for (const [path, parameter] of trainedOf(model))
        await expectFixture(fixture, `grad/${path}`, parameter.grad);
      set.dispose();
      model.dispose();
    });
  }
}

test.run();
