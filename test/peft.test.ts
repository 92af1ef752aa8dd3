// What every method owes on every model: one run of these tests for each row of test/peft.table.ts.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Parameter, Stream, type Tensor, tidy } from "../src/autograd/index.ts";
import { decodeSafetensors, encodeSafetensors, loadStateDict, readStateDict } from "../src/io/index.ts";
import { AdamW } from "../src/optim/index.ts";
import {
  type AdaptationSet,
  type AdapterConfig,
  adapter,
  expertsOf,
  givenRouter,
  type LoraConfig,
  lora,
  methodFromConfig,
  type PeftMethod,
  uniformRouter,
} from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import {
  attachTo,
  bytesOf,
  modelFamilies,
  type PeftRow,
  peftTable,
  scramble,
  type TestModel,
} from "./peft.table.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array<ArrayBuffer>> =>
  (await x.data()) as Float32Array<ArrayBuffer>;
const isZero = (values: Float32Array): boolean => values.every((value) => value === 0);

/** Draws routes that differ between layers and sides, where there is a choice. */
const ROUTES = [
  [2, 1],
  [1, 0],
] as const;
function draw(set: AdaptationSet): AdaptationSet {
  const { down, up } = set.method.experts;
  const routes = ROUTES.map(([j, k]): [number, number] => [Math.min(j, down - 1), Math.min(k, up - 1)]);
  set.routes.draw(givenRouter([routes]), { step: 0, passes: 1 });
  return set;
}

async function logitsOf(model: TestModel): Promise<Float32Array<ArrayBuffer>> {
  const logits = model.forward();
  const values = await floats(logits);
  logits.dispose();
  return values;
}

function assertDiffer(a: Float32Array, b: Float32Array, name: string): void {
  if (a.every((value, i) => value === b[i]))
    throw new Error(`${name}: the same ${a.length} values, expected others`);
}

/** The expert that a parameter's layer and side draw. */
function drawnExpert(set: AdaptationSet, name: string): number {
  const layer = Number(/layer\.(\d+)\./.exec(name)?.[1]);
  const isDown = /\.(down|lora_A)\./.test(name);
  return set.routes.last()[layer]?.[isDown ? 0 : 1]?.[0] ?? Number.NaN;
}

function sliceOf(values: Float32Array, parameter: Parameter, j: number): Float32Array {
  const size = parameter.size / (parameter.shape[0] ?? 1);
  return values.subarray(j * size, (j + 1) * size);
}

for (const family of modelFamilies) {
  const test = suite(family.name);
  for (const row of peftTable) contract(test, row, () => family.build());
  test.run();
}

function contract(test: ReturnType<typeof suite>, row: PeftRow, build: () => TestModel): void {
  test(`${row.name}: a fresh set ${row.isIdentity ? "leaves" : "moves"} the logits`, async () => {
    const model = build();
    const before = await logitsOf(model);
    draw(attachTo(model, row.make()));
    const after = await logitsOf(model);
    if (row.isIdentity) assertBitEqual(after, before, "logits");
    else assertDiffer(after, before, "logits");
  });

  test(`${row.name}: its parameters and the head receive gradients, each drawn expert alone`, async () => {
    const model = build();
    const set = draw(scramble(attachTo(model, row.make())));
    model.loss(model.forward()).backward();
    for (const [name, parameter] of set.namedParameters()) {
      assert.ok(parameter.grad, `${name} has no gradient`);
      const gradient = await floats(parameter.grad);
      for (let j = 0; j < (parameter.shape[0] ?? 0); j++) {
        const isDrawn = j === drawnExpert(set, name);
        assert.is(
          isZero(sliceOf(gradient, parameter, j)),
          !isDrawn,
          `${name}, expert ${j}: drawn ${isDrawn}`,
        );
      }
    }
    for (const [name, parameter] of model.model.namedParameters()) {
      assert.is(parameter.grad !== null, model.head.includes(parameter), `${name} has a gradient`);
    }
  });

  test(`${row.name}: frozen weights keep their bytes over three steps, trained ones move`, async () => {
    const model = build();
    const set = scramble(attachTo(model, row.make()));
    const all = [...model.model.namedParameters(), ...set.namedParameters()];
    const before = await bytesOf(all);
    const optimiser = new AdamW([...set.parameters(), ...model.model.parameters()], { weightDecay: 0.1 });
    for (let step = 0; step < 3; step++) {
      optimiser.zeroGrad();
      set.routes.draw(uniformRouter(Stream.seed(4)), { step, passes: 1 });
      tidy(() => model.loss(model.forward()).backward());
      optimiser.step();
    }
    const after = await bytesOf(all);
    for (const [name, parameter] of all) {
      const [then, now] = [before.get(name), after.get(name)] as [Float32Array, Float32Array];
      if (parameter.requiresGrad) assertDiffer(now, then, name);
      else assertBitEqual(now, then, name);
    }
  });

  test(`${row.name}: saved and loaded into a new set, the logits keep their bits`, async () => {
    const model = build();
    const set = draw(scramble(attachTo(model, row.make())));
    const expected = await logitsOf(model);
    const file = encodeSafetensors(await readStateDict(set.namedParameters()));
    const other = build();
    const fresh = draw(attachTo(other, row.make()));
    assertDiffer(await logitsOf(other), expected, "logits before loading");
    loadStateDict(new Map(fresh.namedParameters()), decodeSafetensors(file).tensors, { what: "adapter" });
    assertBitEqual(await logitsOf(other), expected, "logits");
  });

  test(`${row.name}: merged weights are the mean of the experts as they are now`, async () => {
    const model = build();
    const set = draw(scramble(attachTo(model, row.make())));
    const before = await bytesOf(set.namedParameters());
    const logits = await logitsOf(model);
    const merged = set.mergeExperts(model.model, Stream.seed(9));
    for (const [name, values] of await bytesOf(set.namedParameters()))
      assertBitEqual(values, before.get(name) ?? values.slice(1), `${name} of the mixture`);
    assertBitEqual(await logitsOf(model), logits, "logits with the mixture still attached");
    await expectMean(merged, set);
    scramble(set, 6);
    merged.setToMeanOf(set);
    await expectMean(merged, set);
    set.detach();
    merged.attach();
    const plain = build();
    const average = attachTo(plain, row.plain());
    const means = await bytesOf(merged.namedParameters());
    for (const [name, parameter] of average.namedParameters())
      parameter.write(means.get(name) ?? new Float32Array());
    assertBitEqual(await logitsOf(model), await logitsOf(plain), "merged logits");
  });

  test(`${row.name}: M = 1 is the plain method, bit for bit`, async () => {
    const [one, plain] = [build(), build()];
    const sets = [attachTo(one, row.make({ experts: 1 })), attachTo(plain, row.plain())] as const;
    assert.equal(
      [...sets[0].namedParameters()].map(([name]) => name),
      [...sets[1].namedParameters()].map(([name]) => name),
    );
    for (const set of sets) scramble(set);
    assertBitEqual(await logitsOf(one), await logitsOf(plain), "logits");
    for (const model of [one, plain]) model.loss(model.forward()).backward();
    for (const [i, [name, parameter]] of [...sets[0].namedParameters()].entries()) {
      const other = sets[1].parameters()[i]?.grad as Tensor;
      assertBitEqual(await floats(parameter.grad as Tensor), await floats(other), `gradient of ${name}`);
    }
  });

  test(`${row.name}: a drawn expert works as the plain method with its weights, bit for bit`, async () => {
    const [mixed, plain] = [build(), build()];
    const mixture = draw(scramble(attachTo(mixed, row.make())));
    const single = attachTo(plain, row.plain());
    const bytes = await bytesOf(mixture.namedParameters());
    const bank = new Map(mixture.namedParameters());
    for (const [name, parameter] of single.namedParameters()) {
      const source = bank.get(name) as Parameter;
      parameter.write(sliceOf(bytes.get(name) as Float32Array, source, drawnExpert(mixture, name)).slice());
    }
    assertBitEqual(await logitsOf(mixed), await logitsOf(plain), "logits");
  });

  test(`${row.name}: detached it leaves no trace, attached again it is back`, async () => {
    const model = build();
    const base = await logitsOf(model);
    const set = draw(scramble(attachTo(model, row.make())));
    const adapted = await logitsOf(model);
    assertDiffer(adapted, base, "logits");
    set.detach();
    set.detach();
    assertBitEqual(await logitsOf(model), base, "logits without the set");
    set.attach();
    set.attach();
    assertBitEqual(await logitsOf(model), adapted, "logits with the set again");
  });

  test(`${row.name}: two sets act together, and either alone`, async () => {
    const model = build();
    const base = await logitsOf(model);
    const first = draw(scramble(attachTo(model, row.make(), "first"), 5));
    const alone = await logitsOf(model);
    const second = draw(scramble(attachTo(model, row.make(), "second"), 6));
    const both = await logitsOf(model);
    assertDiffer(both, alone, "logits of both");
    assert.throws(
      () => attachTo(model, row.make(), "first"),
      /adaptation "first": \w+\..* has one of that name/,
    );
    assertBitEqual(await logitsOf(model), both, "logits after the refusal");
    second.detach();
    assertBitEqual(await logitsOf(model), alone, "logits of the first");
    first.detach();
    assertBitEqual(await logitsOf(model), base, "logits of none");
  });

  test(`${row.name}: disposing gives every byte back`, async () => {
    const model = build();
    for (const parameter of model.head) parameter.requiresGrad = false;
    const round = (): void => {
      const set = draw(attachTo(model, row.make()));
      const merged = set.mergeExperts(model.model, Stream.seed(9));
      tidy(() => model.loss(model.forward()).backward());
      merged.dispose();
      set.dispose();
    };
    round();
    const before = liveBytes(gpu);
    round();
    assert.is(liveBytes(gpu), before);
  });
}

async function expectMean(merged: AdaptationSet, mixture: AdaptationSet): Promise<void> {
  const parameters = new Map(mixture.namedParameters());
  const bytes = await bytesOf(mixture.namedParameters());
  for (const [name, actual] of await bytesOf(merged.namedParameters())) {
    const parameter = parameters.get(name) as Parameter;
    const M = parameter.shape[0] as number;
    const experts = Array.from({ length: M }, (_, j) =>
      sliceOf(bytes.get(name) as Float32Array, parameter, j),
    );
    const mean = Array.from(
      actual,
      (_, i) => experts.reduce((sum, values) => sum + (values[i] ?? Number.NaN), 0) / M,
    );
    assertClose(actual, mean, { atol: 6e-8, rtol: 1.2e-7, name });
  }
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
  for (const method of ["prefix", "toString", undefined])
    assert.throws(
      () => methodFromConfig({ method }),
      /adapter_config: method .* is not one of adapter, lora/,
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
