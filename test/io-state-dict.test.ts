// Weights between files and parameters: strict loading in one message, halves, and the way back.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Parameter, Stream } from "../src/autograd/index.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  FormatError,
  type LoadOptions,
  loadParameters,
  loadStateDict,
  type RawTensor,
  readStateDict,
  saveParameters,
  type TensorToWrite,
} from "../src/io/index.ts";
import { initUniform, LayerNorm, Linear, Module } from "../src/nn/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const test = suite("state dict");

/** Parameters of a small model: a [3, 5], b [3], c.weight [7]. */
function parametersOf(seed = 1): Map<string, Parameter> {
  const shapes = { a: [3, 5], b: [3], "c.weight": [7] };
  return new Map(
    Object.entries(shapes).map(([name, shape]) => {
      const size = shape.reduce((product, n) => product * n);
      return [name, Parameter.from(gpu, Stream.seed(seed).fold(name).normal(size), shape)];
    }),
  );
}

test("a module of one's own is saved and loaded by its names, halves as they are", async () => {
  class Net extends Module {
    readonly first = new Linear(gpu, 3, 4);
    readonly norm = new LayerNorm(gpu, 4);
  }
  const folder = mkdtempSync(join(tmpdir(), "adamix-io-"));
  const path = join(folder, "net.safetensors");
  const [saved, loaded, other] = [new Net(), new Net(), new Linear(gpu, 3, 4)];
  try {
    initUniform(saved.first.weight, Stream.seed(1), 1);
    saved.norm.to("f16");
    await saveParameters(path, saved, { step: "7" });
    assert.is(decodeSafetensors(readFileSync(path)).metadata.step, "7");
    loaded.norm.to("f16");
    assert.equal(await loadParameters(path, loaded), []);
    for (const [name, parameter] of loaded.namedParameters())
      assert.equal(await parameter.data(), await saved.stateDict().get(name)?.data(), name);
    await loadParameters(path, other, {
      rename: (name) => name.replace(/^first\./, ""),
      mayBeIgnored: (name) => name.startsWith("norm."),
    });
    assert.equal(await other.weight.data(), await saved.first.weight.data());
    const before = await other.weight.data();
    const error = await loadParameters(path, other).catch((error: unknown) => error);
    assert.instance(error, FormatError);
    assert.match((error as Error).message, /2 missing: weight, bias; 4 unexpected: first\.weight/);
    assert.equal(await other.weight.data(), before, "nothing is written");
  } finally {
    for (const module of [saved, loaded, other]) module.dispose();
    rmSync(folder, { recursive: true });
  }
});

type Entry = readonly [string, TensorToWrite];
const f32 = (name: string, shape: readonly number[]): Entry => {
  const size = shape.reduce((product, n) => product * n, 1);
  return [name, { dtype: "F32", shape, data: new Float32Array(size).fill(0.5) }];
};
const fileOf = (...entries: readonly Entry[]): Map<string, RawTensor> =>
  decodeSafetensors(encodeSafetensors(entries)).tensors;
const valuesOf = async (parameters: Map<string, Parameter>): Promise<Float32Array> =>
  Float32Array.from(
    (await Promise.all([...parameters.values()].map((one) => one.data()))).flatMap((x) => [...x]),
  );

/** Loads, expects a FormatError with this message, and finds every parameter as it was. */
async function refuses(
  tensors: Map<string, RawTensor>,
  options: Partial<LoadOptions>,
  message: string,
): Promise<void> {
  const parameters = parametersOf();
  const before = await valuesOf(parameters);
  let thrown: unknown;
  try {
    loadStateDict(parameters, tensors, { what: "tiny.safetensors", ...options });
  } catch (error) {
    thrown = error;
  }
  assert.instance(thrown, FormatError);
  assert.is((thrown as Error).message, message);
  assertBitEqual(await valuesOf(parameters), before, "parameters after the refusal");
}

test("what was saved is loaded, bit for bit", async () => {
  const saved = parametersOf(1);
  const loaded = parametersOf(2);
  const file = encodeSafetensors(await readStateDict(saved));
  const { tensors } = decodeSafetensors(file);
  assert.equal(
    [...tensors].map(([name, { shape }]) => [name, [...shape]]),
    [...saved].map(([name, { shape }]) => [name, [...shape]]),
  );
  assert.equal(loadStateDict(loaded, tensors, { what: "tiny" }), []);
  assertBitEqual(await valuesOf(loaded), await valuesOf(saved), "parameters");
});

test("one message lists everything missing, unexpected, misshapen or unfit, and nothing is written", async () => {
  // "a" fits, so a loader that stops at the first fault would already have written it.
  const tensors = fileOf(
    f32("a", [3, 5]),
    ["b", { dtype: "I32", shape: [4], data: Int32Array.of(1, 2, 3, 4) }],
    f32("x", [1]),
    f32("y.bias", [2]),
  );
  await refuses(
    tensors,
    {},
    "load tiny.safetensors: 1 missing: c.weight; 2 unexpected: x, y.bias; " +
      "1 of other shape: b [4] vs [3] of the model; 1 not of floating point: b I32",
  );
});

test("integers where numbers belong are found before anything is written", async () => {
  const ids: Entry = ["c.weight", { dtype: "I64", shape: [7], data: new BigInt64Array(7) }];
  await refuses(
    fileOf(f32("a", [3, 5]), f32("b", [3]), ids),
    {},
    "load tiny.safetensors: 1 not of floating point: c.weight I64",
  );
});

test("the same number of elements in another shape does not pass", async () => {
  await refuses(
    fileOf(f32("a", [5, 3]), f32("b", [3]), f32("c.weight", [7])),
    {},
    "load tiny.safetensors: 1 of other shape: a [5, 3] vs [3, 5] of the model",
  );
});

test("two tensors that are renamed to one are refused", async () => {
  const rename = (name: string): string => name.replace("gamma", "weight");
  const entries = [f32("a", [3, 5]), f32("b", [3]), f32("c.weight", [7]), f32("c.gamma", [7])];
  await refuses(
    fileOf(...entries),
    { rename },
    "load tiny.safetensors: 1 under a name already taken: c.weight (again as c.gamma)",
  );
});

test("names may be absent, ignored or renamed where the caller says so", async () => {
  const parameters = parametersOf();
  const before = (await (parameters.get("b") as Parameter).data()) as Float32Array;
  const absent = loadStateDict(
    parameters,
    fileOf(f32("A", [3, 5]), f32("c.gamma", [7]), f32("position_ids", [9])),
    {
      what: "tiny",
      rename: (name) => name.replace("gamma", "weight").replace("A", "a"),
      mayBeAbsent: (name) => name === "b",
      mayBeIgnored: (name) => name === "position_ids",
    },
  );
  assert.equal(absent, ["b"]);
  assertBitEqual(await (parameters.get("b") as Parameter).data(), before, "what was absent");
  for (const name of ["a", "c.weight"])
    assert.ok(
      (await (parameters.get(name) as Parameter).data()).every((value) => value === 0.5),
      name,
    );
});

test("F16, BF16 and F64 files load, rounded as their type says", async () => {
  const parameters = parametersOf(3);
  const exact = await valuesOf(parameters);
  for (const [dtype, bits] of [
    ["F16", 11],
    ["BF16", 8],
  ] as const) {
    const entries = (await readStateDict(parameters)).map(
      ([name, tensor]): Entry => [name, { ...tensor, dtype }],
    );
    const loaded = parametersOf(4);
    loadStateDict(loaded, fileOf(...entries), { what: dtype });
    const values = await valuesOf(loaded);
    assertClose(values, exact, { rtol: 2 ** -bits, atol: 2 ** -24, name: dtype });
    assert.not.equal([...values], [...exact], `${dtype} keeps ${bits} bits`);
  }
  const halves = decodeSafetensors(encodeSafetensors(await readStateDict(parameters, "F16")));
  assert.is(halves.tensors.get("a")?.bytes.length, 2 * 15);
  const doubles: Entry[] = (await readStateDict(parameters)).map(([name, { shape, data }]) => [
    name,
    { dtype: "F64", shape, data: Float64Array.from(data as Float32Array) },
  ]);
  const loaded = parametersOf(4);
  loadStateDict(loaded, fileOf(...doubles), { what: "F64" });
  assertBitEqual(await valuesOf(loaded), exact, "F64");
});

test("a scalar and an empty list of parameters pass", async () => {
  const scalar = new Map([["step", Parameter.from(gpu, Float32Array.of(3), [])]]);
  const file = encodeSafetensors(await readStateDict(scalar));
  (scalar.get("step") as Parameter).write(Float32Array.of(0));
  loadStateDict(scalar, decodeSafetensors(file).tensors, { what: "scalar" });
  assert.is(await (scalar.get("step") as Parameter).item(), 3);
  assert.equal(loadStateDict(new Map(), new Map(), { what: "nothing" }), []);
});

test("parameters that lie in an optimiser's arena are saved and loaded in their places", async () => {
  const parameters = parametersOf(5);
  const before = await valuesOf(parameters);
  const optimiser = new AdamW([...parameters.values()], { lr: 0.1 });
  assertBitEqual(await valuesOf(parameters), before, "parameters moved into the arena");
  const file = encodeSafetensors(await readStateDict(parameters));
  for (const parameter of parameters.values()) parameter.write(new Float32Array(parameter.size));
  loadStateDict(parameters, decodeSafetensors(file).tensors, { what: "arena" });
  assertBitEqual(await valuesOf(parameters), before, "parameters");
  assert.is(optimiser.arena.segments[0]?.values.storage, parameters.get("a")?.array.storage);
});

test("a module's names are those of its properties", () => {
  const names = (module: Linear | LayerNorm): string[] => [...module.stateDict().keys()];
  assert.equal(names(new Linear(gpu, 2, 3)), ["weight", "bias"]);
  assert.equal(names(new Linear(gpu, 2, 3, { bias: false })), ["weight"]);
  assert.equal(names(new LayerNorm(gpu, 2)), ["weight", "bias"]);
});

test("halves go from a file to the device and back without rounding, or widened into f32", async () => {
  const bits = Uint16Array.from({ length: 15 }, (_, i) => 0x3c00 + 37 * i);
  for (const [dtype, stored] of [
    ["F16", "f16"],
    ["BF16", "bf16"],
  ] as const) {
    const file = fileOf(["a", { dtype, shape: [3, 5], data: bits }]);
    const same = Parameter.from(gpu, new Float32Array(15), [3, 5], { dtype: stored });
    loadStateDict(new Map([["a", same]]), file, { what: "halves" });
    const again = decodeSafetensors(encodeSafetensors(await readStateDict([["a", same]]))).tensors.get("a");
    assert.is(again?.dtype, dtype);
    assertBitEqual(Uint8Array.from(again?.bytes ?? []), new Uint8Array(bits.buffer), dtype);
    const wide = Parameter.from(gpu, new Float32Array(15), [3, 5]);
    loadStateDict(new Map([["a", wide]]), file, { what: "halves" });
    assertBitEqual(await wide.data(), await same.data(), "widened");
    wide.requiresGrad = false;
    wide.convert(stored);
    assert.is(wide.dtype, stored);
    assertBitEqual(await wide.data(), await same.data(), "converted");
    for (const parameter of [same, wide]) parameter.dispose();
  }
});

test("a module stores its frozen matrices in halves, and nothing else", () => {
  const layer = new Linear(gpu, 6, 4);
  layer.to("f16");
  assert.equal([layer.weight.dtype, layer.bias?.dtype], ["f32", "f32"], "trained parameters stay");
  layer.setRequiresGrad(false).to("f16");
  assert.equal([layer.weight.dtype, layer.bias?.dtype], ["f16", "f32"]);
  layer.to("f32");
  assert.is(layer.weight.dtype, "f32");
  new AdamW(layer.setRequiresGrad(true).parameters());
  assert.throws(() => layer.weight.convert("f16"), /\[4, 6\]: it lies in an optimiser's arena/);
  layer.dispose();
});

test.run();
