// Modules: names, freezing, layers against sums done by hand, initialisation, dropout and sites.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type DrawSource,
  mul,
  Parameter,
  Stream,
  sum,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import {
  countParameters,
  Embedding,
  initBertWeights,
  initUniform,
  LayerNorm,
  Linear,
  LinearSite,
  Module,
  maybeDropout,
  OutputSite,
} from "../src/nn/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array<ArrayBuffer>> =>
  (await x.data()) as Float32Array<ArrayBuffer>;

class Block extends Module {
  readonly first = new Linear(gpu, 3, 5);
  readonly norms = [new LayerNorm(gpu, 5), new LayerNorm(gpu, 5)];
  readonly second: Linear;
  readonly shortcut: Linear | null = null;
  readonly #hidden = new Linear(gpu, 1, 1);
  readonly label = "not a parameter";

  constructor() {
    super();
    this.second = new Linear(gpu, 5, 3, { bias: false });
  }

  get hidden(): Linear {
    return this.#hidden;
  }
}

class Two extends Module {
  readonly encoder: Block;
  readonly words = new Embedding(gpu, 7, 3);

  constructor() {
    super();
    this.encoder = new Block();
  }
}

const modules = suite("modules");

modules("parameters are named by the way to them, in order of declaration", () => {
  const block = new Block();
  const names = [
    "first.weight",
    "first.bias",
    "norms.0.weight",
    "norms.0.bias",
    "norms.1.weight",
    "norms.1.bias",
    "second.weight",
  ];
  assert.equal([...block.stateDict().keys()], names);
  assert.is(block.stateDict().get("norms.1.bias"), block.norms[1]?.bias);
  assert.equal(block.parameters(), [...block.stateDict().values()]);
  assert.equal(
    [...block.namedParameters("layer.0.")].map(([name]) => name),
    names.map((name) => `layer.0.${name}`),
  );
  assert.is(countParameters(block.parameters()), 15 + 5 + 4 * 5 + 15);
});

class Holder extends Module {
  held: unknown;

  constructor(held: unknown) {
    super();
    this.held = held;
  }
}

modules("parameters in Maps, Sets, plain records and nested arrays are found", () => {
  const linear = (): Linear => new Linear(gpu, 2, 2);
  const namesIn = (held: unknown): string[] => [...new Holder(held).stateDict().keys()];
  const pair = (way: string): string[] => [`held.${way}.weight`, `held.${way}.bias`];
  assert.equal(namesIn(new Map([["key", linear()]])), pair("key"));
  assert.equal(namesIn(new Map([[7, [linear()]]])), pair("7.0"));
  assert.equal(namesIn(new Set([linear(), linear()])), [...pair("0"), ...pair("1")]);
  assert.equal(namesIn({ a: linear(), b: Parameter.zeros(gpu, [2]) }), [...pair("a"), "held.b"]);
  assert.equal(namesIn([[], [linear()]]), pair("1.0"));
  // Of what is no container nothing is looked at.
  assert.equal(
    namesIn(
      new (class {
        inner = linear();
      })(),
    ),
    [],
  );
});

modules("what is reached twice comes once, by its first name, and a way back to the parent ends", () => {
  const linear = new Linear(gpu, 2, 3);
  const tied = new Holder([linear, linear, { weight: linear.weight }]);
  assert.equal([...tied.stateDict().keys()], ["held.0.weight", "held.0.bias"]);
  assert.is(countParameters(tied.parameters()), 9);
  assert.is(countParameters([...linear.parameters(), ...tied.parameters()]), 9);
  const child = new Holder([linear]);
  const parent = new Holder(child);
  (child.held as unknown[]).push(parent);
  assert.equal([...parent.stateDict().keys()], ["held.held.0.weight", "held.held.0.bias"]);
  parent.dispose();
  assert.not.ok(linear.weight.array.alive);
});

modules("a module that names its parameters itself is asked for them", () => {
  class Hidden extends Module {
    readonly #weight = Parameter.zeros(gpu, [2]);
    override *namedParameters(prefix = ""): IterableIterator<[string, Parameter]> {
      yield* super.namedParameters(prefix);
      yield [`${prefix}weight`, this.#weight];
    }
  }
  const hidden = new Hidden();
  assert.equal([...new Holder([hidden, hidden]).stateDict().keys()], ["held.0.weight"]);
  assert.equal([...hidden.stateDict().keys()], ["weight"]);
});

modules("a tensor that requires a gradient, and would be trained by nobody, is refused", () => {
  const w = tensor(gpu, [1, 2]);
  const net = new Holder({ w });
  assert.equal(net.parameters(), []);
  w.requiresGrad = true;
  const message = /^Holder\.held\.w: a tensor that requires a gradient is no Parameter; use Parameter\.from/;
  assert.throws(() => net.parameters(), message);
});

modules("a frozen module records nothing, and its input still gets a gradient", async () => {
  const layer = new Linear(gpu, 3, 2);
  layer.weight.write(Float32Array.of(1, 2, 3, 4, 5, 6));
  layer.setRequiresGrad(false);
  const x = tensor(gpu, Float32Array.of(1, 1, 1), [1, 3]);
  assert.is(layer.forward(x).node, null);
  x.requiresGrad = true;
  sum(layer.forward(x)).backward();
  assertClose(await floats(x.grad as Tensor), [5, 7, 9], { name: "gradient of x" });
  assert.is(layer.weight.grad, null);
  assert.is(layer.bias?.grad ?? null, null);
  layer.setRequiresGrad(true);
  sum(layer.forward(x)).backward();
  assertClose(await floats(layer.weight.grad as Tensor), [1, 1, 1, 1, 1, 1], { name: "gradient of weight" });
});

modules("disposing gives every byte back", () => {
  const before = liveBytes(gpu);
  const block = new Block();
  block.hidden.dispose();
  assert.ok(liveBytes(gpu) > before);
  block.dispose();
  block.dispose();
  assert.is(liveBytes(gpu), before);
});

modules.run();

const layers = suite("layers");

layers("Linear: x weightᵀ + bias, zeros until something writes them", async () => {
  const layer = new Linear(gpu, 3, 2);
  const x = tensor(gpu, Float32Array.of(1, 2, 3, -1, 0, 1), [2, 1, 3]);
  assert.equal([...layer.forward(x).shape], [2, 1, 2]);
  assertClose(await floats(layer.forward(x)), [0, 0, 0, 0], { name: "fresh" });
  layer.weight.write(Float32Array.of(1, 10, 100, 2, 0, -2));
  layer.bias?.write(Float32Array.of(0.5, -0.5));
  assertClose(await floats(layer.forward(x)), [321.5, -4.5, 99.5, -4.5], { name: "written" });
  const bare = new Linear(gpu, 3, 2, { bias: false });
  bare.weight.write(Float32Array.of(1, 10, 100, 2, 0, -2));
  assertClose(await floats(bare.forward(x)), [321, -4, 99, -4], { name: "without bias" });
});

layers("LayerNorm: normalised over the last dimension, eps inside the root", async () => {
  const layer = new LayerNorm(gpu, 3, { eps: 0.5 });
  // 0, 3, 3 has mean 2 and variance 2.
  const x = tensor(gpu, Float32Array.of(0, 3, 3), [1, 3]);
  const rstd = 1 / Math.sqrt(2 + 0.5);
  assertClose(await floats(layer.forward(x)), [-2 * rstd, rstd, rstd], { atol: 1e-6, name: "fresh" });
  layer.weight.write(Float32Array.of(1, 2, 0));
  layer.bias.write(Float32Array.of(0, 1, 7));
  assertClose(await floats(layer.forward(x)), [-2 * rstd, 2 * rstd + 1, 7], { atol: 1e-6, name: "written" });
});

layers("Embedding: rows of the table; padding and what is not named get no gradient", async () => {
  const layer = new Embedding(gpu, 5, 3, { paddingIndex: 1 });
  layer.weight.write(Float32Array.from({ length: 15 }, (_, i) => i));
  const ids = tensor(gpu, Int32Array.of(4, 1, 0, 4), [2, 2]);
  const y = layer.forward(ids);
  assert.equal([...y.shape], [2, 2, 3]);
  assertClose(await floats(y), [12, 13, 14, 3, 4, 5, 0, 1, 2, 12, 13, 14], { name: "rows" });
  sum(y).backward();
  const expected = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2];
  assertClose(await floats(layer.weight.grad as Tensor), expected, { name: "gradient" });
});

layers.run();

const starts = suite("initialisation");

starts("BERT's: weights from N(0, std) by name, biases and LayerNorms as they are", async () => {
  const [one, other] = [new Two(), new Two()];
  initBertWeights(one, Stream.seed(3), 0.05);
  initBertWeights(other, Stream.seed(3), 0.05);
  const firsts = new Set<number | undefined>();
  let squares = 0;
  let n = 0;
  for (const [name, parameter] of one.namedParameters()) {
    const values = await floats(parameter);
    assertBitEqual(await floats(other.stateDict().get(name) as Parameter), values, name);
    if (name.endsWith("bias"))
      assert.ok(
        values.every((value) => value === 0),
        name,
      );
    else if (name.includes("norms"))
      assert.ok(
        values.every((value) => value === 1),
        name,
      );
    else {
      firsts.add(values[0]);
      for (const value of values) squares += value * value;
      n += values.length;
    }
  }
  assert.is(firsts.size, 3, "first, second and words start apart");
  // Three standard errors of a standard deviation over n = 51 numbers.
  assertClose([Math.sqrt(squares / n)], [0.05], { rtol: 3 / Math.sqrt(2 * n), name: "standard deviation" });
});

starts("a module draws the same numbers whatever stands beside it", async () => {
  class Alone extends Module {
    readonly encoder = new Block();
  }
  const [two, alone] = [new Two(), new Alone()];
  for (const module of [two, alone]) initBertWeights(module, Stream.seed(3));
  assertBitEqual(
    await floats(alone.encoder.second.weight),
    await floats(two.encoder.second.weight),
    "second",
  );
});

starts("uniform: within the bound, on both sides of 0", async () => {
  const { weight } = new Linear(gpu, 9, 11);
  initUniform(weight, Stream.seed(1), 0.25);
  const values = await floats(weight);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  assert.ok(low >= -0.25 && low < -0.2 && high < 0.25 && high > 0.2, `${low} ... ${high}`);
});

starts.run();

const dropping = suite("dropout of modules");
const source: DrawSource = {
  stream: Stream.seed(1).fold("forward"),
  clock: tensor(gpu, Uint32Array.of(7, 0)),
  examples: 3,
};

dropping("without a draw, or with p = 0, the tensor passes as it is", () => {
  const x = tensor(gpu, new Float32Array(6), [3, 2]);
  assert.is(maybeDropout(x, 0.5, {}, "here"), x);
  assert.is(maybeDropout(x, 0, { draw: source }, "here"), x);
});

dropping("a draw drops a share p, scales the rest, and each name draws of its own", async () => {
  const n = 3 * 1001;
  const x = tensor(gpu, new Float32Array(n).fill(1), [3, 1001]);
  const at = (...path: (string | number)[]): Promise<Float32Array> =>
    floats(maybeDropout(x, 0.25, { draw: source }, ...path));
  const here = await at("here", 0);
  const scale = Math.fround(1 / 0.75);
  assert.ok(
    here.every((value) => value === 0 || Math.abs(value - scale) < 1e-6),
    "values are 0 or 1 / (1 - p)",
  );
  const dropped = here.filter((value) => value === 0).length / n;
  // Four standard errors.
  assertClose([dropped], [0.25], { atol: 4 * Math.sqrt((0.25 * 0.75) / n), name: "share dropped" });
  assertBitEqual(await at("here", 0), here, "the same name again");
  for (const path of [
    ["here", 1],
    ["there", 0],
  ] as const) {
    const other = await at(...path);
    const equal = other.filter((value, i) => (value === 0) === (here[i] === 0)).length / n;
    // Two independent masks agree in p² + (1-p)² of all places.
    assertClose([equal], [0.625], { atol: 0.05, name: `agreement with ${path.join(".")}` });
  }
});

dropping.run();

const sites = suite("sites");

sites("a linear site applies what is attached in that order, each to the last result", async () => {
  const site = new LinearSite({ name: "layer.0.query", layer: 0 }, new Linear(gpu, 3, 2));
  assert.equal([site.kind, site.inputs, site.outputs], ["linear", 3, 2]);
  const y = tensor(gpu, Float32Array.of(1, 2), [1, 2]);
  const x = tensor(gpu, Float32Array.of(9, 9, 9), [1, 3]);
  assert.is(site.apply(y, x, {}), y, "an empty site returns what it is given");
  const seen: Tensor[] = [];
  site.attach("double", (value, input) => {
    seen.push(input);
    return mul(value, 2);
  });
  site.attach("shift", (value) => value.add(1));
  assertClose(await floats(site.apply(y, x, {})), [3, 5], { name: "2 y + 1" });
  assert.is(seen[0], x);
  assert.equal([site.has("double"), site.has("other")], [true, false]);
  site.detach("double");
  site.detach("never attached");
  assertClose(await floats(site.apply(y, x, {})), [2, 3], { name: "y + 1" });
});

sites("an output site shows the residual, the LayerNorm and the options of the pass", async () => {
  const layerNorm = new LayerNorm(gpu, 2);
  const site = new OutputSite({ name: "layer.0.output", layer: 0 }, 2);
  assert.equal([site.kind, site.channels], ["output", 2]);
  const value = tensor(gpu, Float32Array.of(1, 2), [1, 2]);
  const residual = tensor(gpu, Float32Array.of(10, 20), [1, 2]);
  const options = { draw: source };
  site.attach("first", (output, given) => {
    assert.is(given, options);
    assert.is(output.layerNorm, layerNorm);
    return output.value.add(output.residual);
  });
  site.attach("second", (output) => output.value.sub(output.residual.mul(2)));
  const y = tidy(() => site.apply({ value, residual, layerNorm }, options));
  assertClose(await floats(y), [1 + 10 - 20, 2 + 20 - 40], { name: "value - residual" });
});

sites.run();
