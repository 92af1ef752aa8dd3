// Settings of methods: what is refused, what is saved, how they start.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Parameter, Tensor } from "../src/autograd/index.ts";
import {
  type AdapterConfig,
  adapter,
  expertsOf,
  ia3,
  type LoraConfig,
  lora,
  methodFromConfig,
  type PeftMethod,
  type PromptConfig,
  prefix,
  prompt,
  topLayers,
  unipelt,
} from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { attachTo, bytesOf, modelFamilies, peftTable, type TestModel } from "./peft.table.ts";

const gpu = await testGpu();
const isZero = (values: Float32Array): boolean => values.every((value) => value === 0);

async function logitsOf(model: TestModel): Promise<Float32Array<ArrayBuffer>> {
  const logits = model.forward();
  const values = await floats(logits);
  logits.dispose();
  return values;
}

const floats = async (x: Tensor): Promise<Float32Array<ArrayBuffer>> =>
  (await x.data()) as Float32Array<ArrayBuffer>;

function sliceOf(values: Float32Array, parameter: Parameter, j: number): Float32Array {
  const size = parameter.size / (parameter.shape[0] ?? 1);
  return values.subarray(j * size, (j + 1) * size);
}

const configs = suite("settings of methods");
const classification = modelFamilies[0] as (typeof modelFamilies)[number];

const refused: readonly [what: string, make: () => PeftMethod, message: RegExp][] = [
  [
    "bottleneck 0",
    () => adapter({ bottleneck: 0 }),
    /adapter: bottleneck is 0, expected a whole number of 1 or more/,
  ],
  ["bottleneck 2.5", () => adapter({ bottleneck: 2.5 }), /adapter: bottleneck is 2.5/],
  ["rank 0", () => lora({ rank: 0 }), /lora: rank is 0, expected a whole number of 1 or more/],
  ["dropout 1.5", () => lora({ rank: 1, dropout: 1.5 }), /lora: dropout is 1.5, expected 0 <= p < 1/],
  ["dropout NaN", () => lora({ rank: 1, dropout: Number.NaN }), /lora: dropout is NaN/],
  ["experts 0", () => adapter({ bottleneck: 1, experts: 0 }), /adamix: experts is 0, expected 1 or more/],
  ...["swish", "toString"].map((name): [string, () => PeftMethod, RegExp] => [
    `activation ${name}`,
    () => adapter({ bottleneck: 1, activation: name } as unknown as AdapterConfig),
    new RegExp(`adapter: activation "${name}" is not one of relu, gelu, geluTanh, silu, tanh, sigmoid`),
  ]),
  [
    "input sum",
    () => adapter({ bottleneck: 1, input: "sum" } as unknown as AdapterConfig),
    /adapter: input is "sum"/,
  ],
  [
    "prompt of 0 tokens",
    () => prompt({ tokens: 0 }),
    /prompt: tokens is 0, expected a whole number of 1 or more/,
  ],
  [
    "prompt of numbers",
    () => prompt({ tokens: 1, init: "ids" } as unknown as PromptConfig),
    /prompt: init is "ids"/,
  ],
  ["prefix of 1.5 tokens", () => prefix({ tokens: 1.5 }), /prefix: tokens is 1.5/],
  ["prefix through 0", () => prefix({ tokens: 1, bottleneck: 0 }), /prefix: bottleneck is 0/],
  [
    "experts of a learned prefix",
    () => prefix({ tokens: 1, experts: 2 }),
    /prefix: 2 experts of a prefix that is learned itself; give a bottleneck/,
  ],
  ["0 top layers", () => topLayers({ layers: 0 }), /topLayers: layers is 0/],
  [
    "a combination of nothing",
    () => unipelt({}),
    /unipelt: nothing to combine; give settings of adapter, prefix/,
  ],
  [
    "share both",
    () => lora({ rank: 1, share: "both" } as unknown as LoraConfig),
    /adamix: share is "both", expected one of up, down, none/,
  ],
];
for (const [what, make, message] of refused)
  configs(`${what} is refused`, () => assert.throws(make, message));

const misplaced: readonly [what: string, method: PeftMethod, message: RegExp][] = [
  [
    "a target that matches nothing lists the names there are",
    lora({ rank: 1, targets: ["query", "quary"] }),
    /lora: target "quary" matches no site; names look like "roberta\.encoder\.layer\.0\.attention\.self\.query" \(query\), .*"roberta\.encoder\.layer\.0\.output" \(feedForward\)$/,
  ],
  ["no targets at all", lora({ rank: 1, targets: [] }), /lora: no targets; names look like "roberta/],
  [
    "an adapter on a linear layer",
    adapter({ bottleneck: 1, targets: ["layer.*.output", "key"] }),
    /adapter: "roberta.encoder.layer.0.attention.self.key" is no sub-layer output; target those, or use lora/,
  ],
  [
    "LoRA on a sub-layer's output",
    lora({ rank: 1, targets: ["query", "output"] }),
    /lora: "roberta.encoder.layer.0.attention.output" is no linear layer; target those, or use adapter/,
  ],
  [
    "(IA)³ on a sub-layer's output",
    ia3({ targets: ["attention"] }),
    /ia3: "roberta.encoder.layer.0.attention.output" is no linear layer; target key, value or/,
  ],
  [
    "more top layers than there are",
    topLayers({ layers: 3 }),
    /topLayers: the last 3 layers of a model of 2/,
  ],
];
for (const [what, method, message] of misplaced) {
  configs(`${what}: refused, with nothing attached and no memory kept`, async () => {
    const model = classification.build();
    const base = await logitsOf(model);
    const before = liveBytes(gpu);
    assert.throws(() => attachTo(model, method), message);
    assert.is(liveBytes(gpu), before);
    assertBitEqual(await logitsOf(model), base, "logits");
  });
}

for (const row of peftTable) {
  configs(`${row.name}: saved as JSON and read back, the same method`, () => {
    const { config, experts, targets } = row.make();
    const back = methodFromConfig(JSON.parse(JSON.stringify(config)));
    assert.equal([back.config, back.experts, back.targets], [config, experts, targets]);
  });
}

configs("a saved method that does not exist is refused", () => {
  for (const method of ["suffix", "toString", undefined])
    assert.throws(
      () => methodFromConfig({ method }),
      /adapter_config: method .* is not one of adapter, bitFit, full, head, ia3, lora, prefix, prompt, topLayers/,
    );
});

configs("sharing puts one module on one side", () => {
  assert.equal(expertsOf(4, "up"), { down: 4, up: 1 });
  assert.equal(expertsOf(4, "down"), { down: 1, up: 4 });
  assert.equal(expertsOf(4, "none"), { down: 4, up: 4 });
});

configs.run();

const starts = suite("initialisation of methods");

starts(
  "adapters: every expert of its own from N(0, 0.02), biases 0, the same for the same stream",
  async () => {
    const model = classification.build();
    const make = (): PeftMethod => adapter({ bottleneck: 7, experts: 3, share: "none" });
    const set = attachTo(model, make());
    const again = attachTo(classification.build(), make());
    const bytes = await bytesOf(set.namedParameters());
    const slices = new Set<number | undefined>();
    let weights: number[] = [];
    for (const [name, parameter] of set.namedParameters()) {
      const values = bytes.get(name) as Float32Array;
      if (name.endsWith("bias")) assert.ok(isZero(values), name);
      else {
        for (let j = 0; j < 3; j++) slices.add(sliceOf(values, parameter, j)[0]);
        weights = weights.concat([...values]);
      }
    }
    assert.is(slices.size, 2 * 2 * 3, "first weights of layers, sides and experts");
    const variance = weights.reduce((sum, w) => sum + w * w, 0) / weights.length;
    assertClose([Math.sqrt(variance)], [0.02], {
      rtol: 0.1,
      name: `standard deviation of ${weights.length}`,
    });
    for (const [name, values] of await bytesOf(again.namedParameters()))
      assertBitEqual(values, bytes.get(name) as Float32Array, name);
  },
);

for (const init of ["distinct", "authors"] as const) {
  starts(
    `LoRA, ${init}: A within 1/√d, ${init === "distinct" ? "each" : "no"} expert of its own, B = 0`,
    async () => {
      const set = attachTo(classification.build(), lora({ rank: 3, experts: 3, share: "none", init }));
      const bytes = await bytesOf(set.namedParameters());
      const firsts = new Set<number | undefined>();
      for (const [name, parameter] of set.namedParameters()) {
        const values = bytes.get(name) as Float32Array;
        if (name.includes("lora_B")) assert.ok(isZero(values), name);
        else {
          const largest = Math.max(...values.map(Math.abs));
          assert.ok(
            largest <= 1 / Math.sqrt(10) && largest > 0.8 / Math.sqrt(10),
            `${name}: largest ${largest}`,
          );
          for (let j = 0; j < 3; j++) firsts.add(sliceOf(values, parameter, j)[0]);
        }
      }
      assert.is(
        firsts.size,
        2 * 2 * (init === "distinct" ? 3 : 1),
        "first weights of layers, q and v, experts",
      );
    },
  );
}

starts.run();
