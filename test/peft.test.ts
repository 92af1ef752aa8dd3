// What every method owes on every model: one run of these tests for each row of test/peft.table.ts.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Parameter, Stream, type Tensor, tidy } from "../src/autograd/index.ts";
import { decodeSafetensors, encodeSafetensors, loadStateDict, readStateDict } from "../src/io/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { type AdaptationSet, givenRouter, type PeftMethod, uniformRouter } from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import {
  bytesOf,
  modelFamilies,
  type PeftRow,
  peftTable,
  scramble,
  attachTo as setOn,
  type TestModel,
} from "./peft.table.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array<ArrayBuffer>> =>
  (await x.data()) as Float32Array<ArrayBuffer>;
const isZero = (values: Float32Array): boolean => values.every((value) => value === 0);

/** What tests have made: it goes back to the pool after each. */
const made: { dispose(): void }[] = [];

function attachTo(model: TestModel, method: PeftMethod, name?: string): AdaptationSet {
  const set = setOn(model, method, name);
  made.push(set);
  return set;
}

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

/** What trains: of the model, its head among it, and of the set. */
function trained(model: TestModel, set: AdaptationSet): [string, Parameter][] {
  const own = [...model.model.namedParameters()].filter(([, { requiresGrad }]) => requiresGrad);
  return [...own, ...set.namedParameters()];
}

/** Which experts of a parameter's layer and side are drawn: all of a shared side. */
function isDrawn(set: AdaptationSet, name: string, { slices }: Parameter, j: number): boolean {
  if (slices === 1) return true;
  const layer = Number(/\.(?:layer|layers|h)\.(\d+)\./.exec(name)?.[1]);
  const isDown = /\.(down|lora_A)\./.test(name);
  return set.routes.last()[layer]?.[isDown ? 0 : 1]?.[0] === j;
}

function sliceOf(values: Float32Array, { size, slices }: Parameter, j: number): Float32Array {
  return values.subarray((j * size) / slices, ((j + 1) * size) / slices);
}

/** What a family with another head is crossed with: a method of each kind of site. */
const OF_VARIANTS = ["adapter", "lora", "prompt", "prefix", "adamix adapter, share up"];

for (const [i, family] of modelFamilies.entries()) {
  const test = suite(family.name);
  test.after.each(() => {
    for (const thing of made.splice(0).reverse()) thing.dispose();
  });
  const build = (): TestModel => {
    const model = family.build();
    made.push(model.model);
    return model;
  };
  for (const row of peftTable) {
    if (i > 0 && row.once) continue;
    if (family.isVariant && !OF_VARIANTS.includes(row.name)) continue;
    everyMethod(test, row, build);
    if (row.adds) addingMethod(test, row, build);
    if (row.plain) mixture(test, { ...row, plain: row.plain }, build);
  }
  test.run();
}

function everyMethod(test: ReturnType<typeof suite>, row: PeftRow, build: () => TestModel): void {
  test(`${row.name}: a fresh set ${row.isIdentity ? "leaves" : "moves"} the logits`, async () => {
    const model = build();
    const before = await logitsOf(model);
    draw(attachTo(model, row.make()));
    const after = await logitsOf(model);
    if (row.isIdentity) assertBitEqual(after, before, "logits");
    else assertDiffer(after, before, "logits");
  });

  test(`${row.name}: what trains receives gradients, each drawn expert alone, the rest none`, async () => {
    const model = build();
    const set = draw(scramble(attachTo(model, row.make())));
    const training = trained(model, set);
    if (training.length === 0) return; // a head that the model does not have
    model.loss(model.forward()).backward();
    for (const [name, parameter] of training) {
      assert.ok(parameter.grad, `${name} has no gradient`);
      const gradient = await floats(parameter.grad);
      for (let j = 0; j < parameter.slices; j++) {
        const drawn = isDrawn(set, name, parameter, j);
        assert.is(isZero(sliceOf(gradient, parameter, j)), !drawn, `${name}, expert ${j}: drawn ${drawn}`);
      }
    }
    const all = new Set(training.map(([, parameter]) => parameter));
    for (const [name, parameter] of model.model.namedParameters())
      if (!all.has(parameter)) assert.is(parameter.grad, null, `${name} has a gradient`);
  });

  test(`${row.name}: gradients are those of central differences`, async () => {
    const model = build();
    const set = draw(scramble(attachTo(model, row.make())));
    const training = trained(model, set);
    const lossNow = async (): Promise<number> => {
      const loss = tidy(() => model.loss(model.forward()));
      const [value = Number.NaN] = await floats(loss);
      loss.dispose();
      return value;
    };
    if (training.length === 0) return;
    tidy(() => model.loss(model.forward()).backward());
    for (const i of [0, Math.floor(training.length / 2), training.length - 1]) {
      const [name, parameter] = training[i] as [string, Parameter];
      const gradient = await floats(parameter.grad as Tensor);
      const place = gradient.reduce(
        (best, g, j) => (Math.abs(g) > Math.abs(gradient[best] ?? 0) ? j : best),
        0,
      );
      const values = await floats(parameter);
      const at = async (step: number): Promise<number> => {
        parameter.write(values.with(place, (values[place] as number) + step));
        return lossNow();
      };
      const h = 1e-2;
      const slope = ((await at(h)) - (await at(-h))) / (2 * h);
      parameter.write(values);
      // The loss has 2e-7 of noise, and a third derivative.
      const tolerance = { atol: 1e-4, rtol: 2e-2, name: `${name} [${place}]` };
      assertClose([gradient[place] as number], [slope], tolerance);
    }
  });

  test(`${row.name}: frozen weights keep their bytes over twenty steps, trained ones move`, async () => {
    const model = build();
    const set = scramble(attachTo(model, row.make()));
    const training = trained(model, set);
    if (training.length === 0) return;
    const all = [...model.model.namedParameters(), ...set.namedParameters()];
    const before = await bytesOf(all);
    const optimiser = new AdamW([...set.parameters(), ...model.model.parameters()], { weightDecay: 0.1 });
    for (let step = 0; step < 20; step++) {
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
    for (const [name, parameter] of trained(model, set))
      parameter.write(Stream.seed(7).fold(name).normal(parameter.size, 0.1, 0.4));
    const expected = await logitsOf(model);
    const entries = trained(model, set);
    const file = encodeSafetensors(await readStateDict(entries));
    const other = build();
    const fresh = draw(attachTo(other, row.make()));
    if (entries.length > 0) assertDiffer(await logitsOf(other), expected, "logits before loading");
    loadStateDict(new Map(trained(other, fresh)), decodeSafetensors(file).tensors, { what: "adapter" });
    assertBitEqual(await logitsOf(other), expected, "logits");
  });

  test(`${row.name}: disposing gives every byte back`, async () => {
    const model = build();
    for (const parameter of model.head) parameter.requiresGrad = false;
    const round = (): void => {
      const set = draw(setOn(model, row.make()));
      const merged = set.mergeExperts(model.model, Stream.seed(9));
      tidy(() => {
        const loss = model.loss(model.forward());
        if (trained(model, set).length > 0) loss.backward();
      });
      merged.dispose();
      set.dispose();
      for (const parameter of model.model.parameters()) parameter.grad = null;
    };
    round();
    const before = liveBytes(gpu);
    round();
    assert.is(liveBytes(gpu), before);
  });
}

function addingMethod(test: ReturnType<typeof suite>, row: PeftRow, build: () => TestModel): void {
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
    const refused = /adaptation "first": \w+\..* has one of that name/;
    assert.throws(() => attachTo(model, row.make(), "first"), refused);
    assertBitEqual(await logitsOf(model), alone, "logits after the refusal");
    // Virtual tokens of both would need more positions than these models have.
    if (row.name === "prompt") return;
    const second = draw(scramble(attachTo(model, row.make(), "second"), 6));
    assertDiffer(await logitsOf(model), alone, "logits of both");
    second.detach();
    assertBitEqual(await logitsOf(model), alone, "logits of the first");
    first.detach();
    assertBitEqual(await logitsOf(model), base, "logits of none");
  });
}

type MixtureRow = PeftRow & Required<Pick<PeftRow, "plain">>;

function mixture(test: ReturnType<typeof suite>, row: MixtureRow, build: () => TestModel): void {
  test(`${row.name}: merged weights are the mean of the experts as they are now`, async () => {
    const model = build();
    const set = draw(scramble(attachTo(model, row.make())));
    const before = await bytesOf(set.namedParameters());
    const logits = await logitsOf(model);
    const merged = set.mergeExperts(model.model, Stream.seed(9));
    made.push(merged);
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
      const drawn = Array.from({ length: source.slices }, (_, j) => j).find((j) =>
        isDrawn(mixture, name, source, j),
      );
      parameter.write(sliceOf(bytes.get(name) as Float32Array, source, drawn as number).slice());
    }
    assertBitEqual(await logitsOf(mixed), await logitsOf(plain), "logits");
  });
}

async function expectMean(merged: AdaptationSet, mixture: AdaptationSet): Promise<void> {
  const parameters = new Map(mixture.namedParameters());
  const bytes = await bytesOf(mixture.namedParameters());
  for (const [name, actual] of await bytesOf(merged.namedParameters())) {
    const parameter = parameters.get(name) as Parameter;
    const M = parameter.slices;
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
