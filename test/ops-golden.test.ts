// The ops fixture on the GPU: values and gradients of every case whose op exists here or follows from others.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import { Tensor, tidy } from "../src/autograd/index.ts";
import * as ops from "../src/ops/index.ts";
import { gpu as openTestGpu } from "./device.ts";
import { loadFixture, withinFixture } from "./fixtures.ts";
import { table } from "./ops.table.ts";
import { assertWithin, plus, ulps } from "./ops-table/bounds.ts";
import type { Attributes, Value } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

interface Case {
  readonly id: string;
  readonly op: string;
  readonly attrs: Attributes;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly grads: readonly string[];
  readonly torch_f32_relerr: Readonly<Record<"out" | "grad", Readonly<Record<string, number>>>>;
}

type Inputs = Readonly<Record<string, Tensor>>;
type Composed = (inputs: Inputs, attrs: Attributes) => Tensor | readonly Tensor[];

const gpu = await openTestGpu();
const fixture = loadFixture<{ cases: readonly Case[] }>("ops");

function given(inputs: Inputs, name: string): Tensor {
  const tensor = inputs[name];
  if (!tensor) throw new Error(`no input ${name}`);
  return tensor;
}

const axesOf = ({ dims }: Attributes) => (dims as readonly number[] | null | undefined) ?? undefined;
const keepDim = ({ keepdim }: Attributes) => ({ keepDim: keepdim === true });

/** Along another dimension than the last: exchanged with it before and after. */
function alongLast(x: Tensor, dim: number, f: (x: Tensor) => Tensor): Tensor {
  const last = x.shape.length - 1;
  return dim === -1 || dim === last ? f(x) : f(x.transpose(dim, last)).transpose(dim, last);
}

const activations: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  relu: ad.relu,
  silu: ad.silu,
  gelu_erf: ad.gelu,
  gelu_tanh: ad.geluTanh,
};

function crossEntropyAttrs({ reduction, ignore_index, label_smoothing }: Attributes): ops.CrossEntropyAttrs {
  return {
    reduction: reduction as "mean" | "sum" | "none" | undefined,
    ignoreIndex: ignore_index as number | undefined,
    labelSmoothing: label_smoothing as number | undefined,
  };
}

/** Ops of the fixture that are ops here: their attributes. The bounds of their rows in ops.table.ts hold. */
const direct: Readonly<Record<string, { op: { name: string }; attrs?: (attrs: Attributes) => object }>> = {
  matmul: { op: ops.matmul, attrs: ({ ta, tb }) => ({ transposeA: ta, transposeB: tb }) },
  linear: { op: ops.linear },
  add: { op: ops.add },
  sub: { op: ops.sub },
  mul: { op: ops.mul },
  div: { op: ops.div },
  relu: { op: ops.relu },
  tanh: { op: ops.tanh },
  sigmoid: { op: ops.sigmoid },
  silu: { op: ops.silu },
  gelu_erf: { op: ops.gelu },
  gelu_tanh: { op: ops.geluTanh },
  exp: { op: ops.exp },
  log: { op: ops.log },
  sqrt: { op: ops.sqrt },
  rsqrt: { op: ops.rsqrt },
  neg: { op: ops.neg },
  square: { op: ops.square },
  abs: { op: ops.abs },
  recip: { op: ops.reciprocal },
  erf: { op: ops.erf },
  clamp: { op: ops.clamp, attrs: ({ min, max }) => ({ a: min, b: max }) },
  sum: { op: ops.sum, attrs: (attrs) => ({ axes: axesOf(attrs), ...keepDim(attrs) }) },
  pow3: { op: ops.powNumber, attrs: () => ({ a: 3 }) },
  max: { op: ops.max, attrs: (attrs) => ({ axes: axesOf(attrs), ...keepDim(attrs) }) },
  argmax: { op: ops.argmax, attrs: ({ dims }) => ({ axis: (dims as readonly number[])[0] }) },
  logsumexp: { op: ops.logSumExp, attrs: ({ dim }) => ({ axes: [dim] }) },
  cross_entropy: { op: ops.crossEntropy, attrs: crossEntropyAttrs },
  symmetric_kl: {
    op: ops.symmetricKl,
    attrs: ({ detach_target }) => ({ gradient: detach_target === true ? "detached" : "full" }),
  },
  layernorm: { op: ops.layerNorm, attrs: ({ eps }) => ({ eps }) },
  embedding: { op: ops.embedding, attrs: ({ padding_idx }) => ({ paddingIndex: padding_idx }) },
  gather: { op: ops.gather, attrs: () => ({ axis: -1 }) },
  index_select: { op: ops.indexSelect, attrs: ({ dim }) => ({ axis: dim }) },
  permute: { op: ops.permute, attrs: ({ perm }) => ({ order: perm }) },
  reshape: { op: ops.reshape, attrs: ({ shape }) => ({ shape }) },
  concat: { op: ops.concat, attrs: ({ dim }) => ({ axis: dim }) },
  broadcast_to: { op: ops.expand, attrs: ({ shape }) => ({ shape }) },
};

/** [B, H, T, D] to [B, T, H·D]. */
function joinHeads(x: Tensor): Tensor {
  const [B = 0, H = 0, T = 0, D = 0] = x.shape;
  return x.permute(0, 2, 1, 3).reshape(B, T, H * D);
}

function attention(inputs: Inputs, { causal }: Attributes): Tensor {
  const q = given(inputs, "q");
  const [B = 0, H = 0, T = 0, D = 0] = q.shape;
  const [k, v] = [joinHeads(given(inputs, "k")), joinHeads(given(inputs, "v"))];
  const y = ad.attention(joinHeads(q), k, v, inputs.mask ?? null, { heads: H, causal: causal === true });
  return y.reshape(B, T, H, D).permute(0, 2, 1, 3);
}

function adapter(inputs: Inputs, { act }: Attributes): Tensor {
  const [x, activation] = [given(inputs, "x"), activations[String(act)]];
  if (!activation) throw new Error(`no activation ${act}`);
  const hidden = activation(ad.linear(x, given(inputs, "down_w"), given(inputs, "down_b")));
  return x.add(ad.linear(hidden, given(inputs, "up_w"), given(inputs, "up_b")));
}

function loraLinear(inputs: Inputs, { scale }: Attributes): Tensor {
  const x = given(inputs, "x");
  const delta = ad.linear(ad.linear(x, given(inputs, "A")), given(inputs, "B")).mul(Number(scale));
  return ad.linear(x, given(inputs, "w"), given(inputs, "b")).add(delta);
}

/** Ops of the fixture that are compositions here. */
const composed: Readonly<Record<string, Composed>> = {
  linear_t: (inputs) => given(inputs, "x").matmul(given(inputs, "w")).add(given(inputs, "b")),
  mean: (inputs, attrs) => given(inputs, "x").mean(axesOf(attrs), keepDim(attrs)),
  var: (inputs, attrs) => {
    const correction = attrs.unbiased === true ? 1 : 0;
    return ad.variance(given(inputs, "x"), axesOf(attrs), { ...keepDim(attrs), correction });
  },
  l2norm: (inputs) => ad.norm(given(inputs, "x")),
  softmax: (inputs, { dim = -1 }) => alongLast(given(inputs, "x"), Number(dim), ad.softmax),
  log_softmax: (inputs, { dim = -1 }) => alongLast(given(inputs, "x"), Number(dim), ad.logSoftmax),
  lm_loss: (inputs, { label_smooth }) => {
    const options = { reduction: "none", labelSmoothing: Number(label_smooth) } as const;
    const mask = given(inputs, "mask");
    const losses = ad.crossEntropy(given(inputs, "x"), given(inputs, "t"), options);
    return losses.mul(mask).sum().div(mask.sum().add(1e-4));
  },
  mse: (inputs) => ad.mse(given(inputs, "x"), given(inputs, "t")),
  where: (inputs) => ad.where(given(inputs, "mask"), given(inputs, "x"), -1e4),
  slice: (inputs, { ranges }) =>
    (ranges as readonly (readonly [number, number])[]).reduce(
      (x, [start, end], axis) => x.slice(axis, start, end),
      given(inputs, "x"),
    ),
  split: (inputs, { size, dim }) => ad.split(given(inputs, "x"), Number(size), Number(dim)),
  stack: (inputs, { dim }) => ad.stack([given(inputs, "a"), given(inputs, "b")], Number(dim)),
  dropout: (inputs, { p }) =>
    given(inputs, "x")
      .mul(given(inputs, "keep"))
      .mul(1 / (1 - Number(p))),
  attention,
  adapter,
  lora_linear: loraLinear,
  lora_merge: (inputs, { scale }) =>
    given(inputs, "w").add(given(inputs, "B").matmul(given(inputs, "A")).mul(Number(scale))),
};

const test = suite(`fixture ${fixture.name}`);
const uncovered: string[] = [];

for (const c of fixture.json.cases) {
  if (c.op in direct || c.op in composed) test(`${fixture.name}: ${c.id}`, () => compare(c));
  else uncovered.push(c.id);
}
if (uncovered.length > 0) console.log(`fixture ${fixture.name}: no op here for ${uncovered.join(", ")}`);

test("nearly every case is covered", () => assert.ok(uncovered.length <= 1, uncovered.join(", ")));

async function compare(c: Case): Promise<void> {
  const inputs: Record<string, Tensor> = {};
  for (const name of c.inputs) inputs[name] = tensorOf(keyOf(c, name), c.grads.includes(name));
  const outputs = tidy(() => run(c, inputs));
  const hasGradient = c.grads.length > 0;
  const gouts = hasGradient ? c.outputs.map((name) => tensorOf(`${c.id}/gout/${name}`, false)) : [];
  for (const [n, name] of c.outputs.entries()) {
    const [output, expected] = [outputs[n], fixture.tensor(`${c.id}/out/${name}`)];
    if (!output) throw new Error(`${c.id}: no output ${name}`);
    assert.equal(output.shape, expected.shape);
    const actual = await output.data();
    withinFixture(actual, expected.data, c.torch_f32_relerr.out[name] ?? 0, `${c.id} ${name}`);
    withinBounds(c, actual, expected);
  }
  tidy(() => {
    if (!hasGradient) return;
    // Several outputs share a graph, which lives for one backward pass.
    const [first, ...rest] = outputs.map((output, n) => output.mul(gouts[n] ?? output).sum());
    rest.reduce((total, part) => total.add(part), first as Tensor).backward();
  });
  for (const name of c.grads) {
    const actual = await given(inputs, name).grad?.data();
    const expected = fixture.floats(`${c.id}/grad/${name}`);
    if (!actual) throw new Error(`${c.id}: no gradient of ${name}`);
    withinFixture(actual, expected.data, c.torch_f32_relerr.grad[name] ?? 0, `${c.id} d${name}`);
  }
  for (const tensor of [...Object.values(inputs), ...outputs, ...gouts]) tensor.dispose();
}

function run({ op, attrs, inputs: names }: Case, inputs: Inputs): readonly Tensor[] {
  const row = rowOf(op);
  if (!row) {
    const result = composed[op]?.(inputs, attrs) ?? [];
    return result instanceof Tensor ? [result] : result;
  }
  const list = names.map((name) => inputs[name] ?? null);
  return [ad.apply(row.op, list, direct[op]?.attrs?.(attrs) ?? {})];
}

function rowOf(op: string) {
  return table.find((row) => row.op === direct[op]?.op);
}

/** The bound of the op's row in the table, and the rounding of the stored value. */
function withinBounds(
  c: Case,
  actual: ArrayLike<number>,
  { shape, data }: { shape: readonly number[]; data: ArrayLike<number> },
): void {
  const row = rowOf(c.op);
  if (!row) return;
  const inputs = c.inputs.map((name): Value => {
    const { shape, data } = fixture.tensor(keyOf(c, name));
    return data instanceof Float32Array ? R.ref(shape, data) : R.indices(shape, data);
  });
  const attrs = (direct[c.op]?.attrs?.(c.attrs) ?? {}) as Attributes; // an object's fields by name
  const positive = inputs.map((x) =>
    x?.data instanceof Float64Array ? R.map({ shape: x.shape, data: x.data }, Math.abs) : x,
  );
  const magnitude = () => (row.magnitude ?? row.reference)(positive, attrs, positive);
  const expected = R.ref(shape, data);
  const bound = plus(row.forward, ulps(0.5))({ inputs, attrs, expected, dy: null, magnitude });
  assertWithin(actual, data, bound, c.id);
}

/** Where an input lies; the case of two equal passes stores a second one that it does not use. */
function keyOf({ id, attrs }: Case, name: string): string {
  const isEqual = name === "q" && String(attrs.note ?? "").startsWith("both sides are p");
  return `${id}/in/${isEqual ? "p" : name}`;
}

function tensorOf(key: string, requiresGrad: boolean): Tensor {
  const { shape, data } = fixture.tensor(key);
  const copy = data instanceof Float32Array ? new Float32Array(data) : new Int32Array(data);
  const tensor = ad.tensor(gpu, copy, shape);
  tensor.requiresGrad = requiresGrad;
  return tensor;
}

test.run();
