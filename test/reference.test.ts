// Every case of the ops fixture, through the float64 references: forward to f32 rounding, gradients by central
// differences. This is what entitles the GPU tests to trust the references.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assertClose } from "./compare.ts";
import { loadFixture } from "./fixtures.ts";
import type { RefIndices, RefTensor } from "./reference/index.ts";
import * as R from "./reference/index.ts";

interface Attrs {
  readonly ta?: boolean;
  readonly tb?: boolean;
  readonly min?: number;
  readonly max?: number;
  readonly dims?: readonly number[] | null;
  readonly keepdim?: boolean;
  readonly unbiased?: boolean;
  readonly dim?: number;
  readonly reduction?: "mean" | "sum" | "none";
  readonly ignore_index?: number;
  readonly label_smoothing?: number;
  readonly label_smooth?: number;
  readonly detach_target?: boolean;
  readonly eps?: number;
  readonly padding_idx?: number;
  readonly perm?: readonly number[];
  readonly shape?: readonly number[];
  readonly ranges?: readonly (readonly [number, number])[];
  readonly size?: number;
  readonly p?: number;
  readonly causal?: boolean;
  readonly act?: string;
  readonly scale?: number | string;
  readonly note?: string;
}

interface Case {
  readonly id: string;
  readonly op: string;
  readonly attrs: Attrs;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly grads: readonly string[];
}

/** One op on a fixture's inputs: floats by name, and integers by name. */
interface Inputs {
  readonly floats: Readonly<Record<string, RefTensor>>;
  readonly ints: Readonly<Record<string, RefIndices>>;
  /** The floats as they were before a central difference moved one: what a stop-gradient sees. */
  readonly fixed: Readonly<Record<string, RefTensor>>;
}
type Op = (inputs: Inputs, attrs: Attrs) => RefTensor | RefTensor[];

const fixture = loadFixture<{ cases: readonly Case[] }>("ops");

function float({ floats }: Inputs, name: string): RefTensor {
  const tensor = floats[name];
  if (!tensor) throw new Error(`no float input ${name}`);
  return tensor;
}

function int({ ints }: Inputs, name: string): RefIndices {
  const tensor = ints[name];
  if (!tensor) throw new Error(`no integer input ${name}`);
  return tensor;
}

/** Integer input as 0 and 1 in float64. */
function mask(inputs: Inputs, name: string): RefTensor {
  const { shape, data } = int(inputs, name);
  return R.ref(shape, data);
}

const unary =
  (f: (x: RefTensor) => RefTensor): Op =>
  (inputs) =>
    f(float(inputs, "x"));
const binary =
  (f: (a: RefTensor, b: RefTensor) => RefTensor): Op =>
  (inputs) =>
    f(float(inputs, "a"), float(inputs, "b"));
const reduction =
  (f: (x: RefTensor, options: R.ReduceOptions & { unbiased?: boolean }) => RefTensor): Op =>
  (inputs, { dims, dim, keepdim, unbiased = false }) =>
    f(float(inputs, "x"), {
      dims: dims ?? (dim === undefined ? undefined : [dim]),
      keepDim: keepdim,
      unbiased,
    });

const activations: Readonly<Record<string, (x: RefTensor) => RefTensor>> = {
  relu: R.relu,
  silu: R.silu,
  gelu_erf: R.gelu,
  gelu_tanh: R.geluTanh,
};

function adapter(inputs: Inputs, act: string): RefTensor {
  const activation = activations[act];
  if (!activation) throw new Error(`no activation ${act}`);
  const x = float(inputs, "x");
  const down = R.linear(x, float(inputs, "down_w"), float(inputs, "down_b"));
  return R.add(x, R.linear(activation(down), float(inputs, "up_w"), float(inputs, "up_b")));
}

function lora(inputs: Inputs, scale: number): RefTensor {
  const x = float(inputs, "x");
  const delta = R.linear(R.linear(x, float(inputs, "A")), float(inputs, "B"));
  return R.add(R.linear(x, float(inputs, "w"), float(inputs, "b")), R.mul(delta, R.ref([], scale)));
}

function symmetricKL(inputs: Inputs, { detach_target: detach = false, note }: Attrs): RefTensor {
  const p = float(inputs, "p");
  if (note?.startsWith("both sides are p")) return R.symmetricKL(p, p);
  const q = float(inputs, "q");
  const { p: fixedP, q: fixedQ } = inputs.fixed;
  return R.symmetricKL(p, q, detach && fixedP && fixedQ ? { targets: [fixedP, fixedQ] } : {});
}

const ops: Readonly<Record<string, Op>> = {
  matmul: (inputs, { ta, tb }) => R.matmul(float(inputs, "a"), float(inputs, "b"), { ta, tb }),
  linear: (inputs) => R.linear(float(inputs, "x"), float(inputs, "w"), inputs.floats.b ?? null),
  linear_t: (inputs) => R.matmul(float(inputs, "x"), float(inputs, "w"), { bias: float(inputs, "b") }),
  add: binary(R.add),
  sub: binary(R.sub),
  mul: binary(R.mul),
  div: binary(R.div),
  relu: unary(R.relu),
  tanh: unary(R.tanh),
  sigmoid: unary(R.sigmoid),
  silu: unary(R.silu),
  gelu_erf: unary(R.gelu),
  gelu_tanh: unary(R.geluTanh),
  exp: unary(R.exp),
  log: unary(R.log),
  sqrt: unary(R.sqrt),
  rsqrt: unary(R.rsqrt),
  neg: unary(R.neg),
  square: unary(R.square),
  abs: unary(R.abs),
  recip: unary(R.recip),
  erf: unary(R.erf),
  pow3: unary((x) => R.powNumber(x, 3)),
  clamp: (inputs, { min = -Infinity, max = Infinity }) => R.clamp(float(inputs, "x"), { min, max }),
  sum: reduction(R.sum),
  mean: reduction(R.mean),
  max: reduction(R.max),
  var: reduction(R.variance),
  logsumexp: reduction(R.logSumExp),
  l2norm: unary(R.l2Norm),
  argmax: (inputs, { dims }) => {
    const { shape, data } = R.argmax(float(inputs, "x"), { dim: dims?.[0] ?? -1 });
    return R.ref(shape, data);
  },
  softmax: (inputs, { dim = -1 }) => R.softmax(float(inputs, "x"), { dim }),
  log_softmax: (inputs, { dim = -1 }) => R.logSoftmax(float(inputs, "x"), { dim }),
  cross_entropy: (inputs, { reduction, ignore_index: ignoreIndex, label_smoothing: labelSmoothing }) =>
    R.crossEntropy(float(inputs, "x"), int(inputs, "t"), { reduction, ignoreIndex, labelSmoothing }),
  lm_loss: (inputs, { label_smooth: labelSmoothing = 0 }) =>
    R.maskedCrossEntropy(float(inputs, "x"), int(inputs, "t"), float(inputs, "mask"), { labelSmoothing }),
  mse: (inputs) => R.mse(float(inputs, "x"), float(inputs, "t")),
  symmetric_kl: symmetricKL,
  layernorm: (inputs, { eps = 1e-5 }) =>
    R.layerNorm(float(inputs, "x"), float(inputs, "g"), float(inputs, "b"), { eps }),
  embedding: (inputs) => R.embedding(float(inputs, "w"), int(inputs, "ids")),
  gather: (inputs) => R.gatherLast(float(inputs, "x"), int(inputs, "idx")),
  index_select: (inputs) => R.indexSelect(float(inputs, "x"), int(inputs, "idx")),
  permute: (inputs, { perm = [] }) => R.permute(float(inputs, "x"), perm),
  reshape: (inputs, { shape = [] }) => R.reshape(float(inputs, "x"), shape),
  slice: (inputs, { ranges = [] }) => R.slice(float(inputs, "x"), ranges),
  concat: (inputs, { dim = 0 }) => R.concat([float(inputs, "a"), float(inputs, "b")], { dim }),
  split: (inputs, { size = 1, dim = 0 }) => R.split(float(inputs, "x"), size, { dim }),
  stack: (inputs, { dim = 0 }) => R.stack([float(inputs, "a"), float(inputs, "b")], { dim }),
  broadcast_to: (inputs, { shape = [] }) => R.expand(float(inputs, "x"), shape),
  where: (inputs) => R.where(mask(inputs, "mask"), float(inputs, "x"), R.ref([], -1e4)),
  dropout: (inputs, { p = 0 }) => R.dropout(float(inputs, "x"), float(inputs, "keep"), { p }),
  attention: (inputs, { causal }) =>
    R.attention(float(inputs, "q"), float(inputs, "k"), float(inputs, "v"), {
      causal,
      mask: inputs.ints.mask ? R.keyMask(mask(inputs, "mask")) : null,
    }),
  adapter: (inputs, { act = "" }) => adapter(inputs, act),
  lora_linear: (inputs, { scale }) => lora(inputs, Number(scale)),
  lora_merge: (inputs, { scale }) => {
    const product = R.matmul(float(inputs, "B"), float(inputs, "A"));
    return R.add(float(inputs, "w"), R.mul(product, R.ref([], Number(scale))));
  },
};

function inputsOf({ id, inputs }: Case): Inputs {
  const floats: Record<string, RefTensor> = {};
  const ints: Record<string, RefIndices> = {};
  for (const name of inputs) {
    const { shape, data } = fixture.tensor(`${id}/in/${name}`);
    if (data instanceof Float32Array) floats[name] = R.ref(shape, data);
    else ints[name] = R.indices(shape, data);
  }
  return { floats, ints, fixed: floats };
}

function run(inputs: Inputs, { op, attrs }: Case): RefTensor[] {
  const f = ops[op];
  if (!f) throw new Error(`no reference for ${op}`);
  const out = f(inputs, attrs);
  return Array.isArray(out) ? out : [out];
}

/** Positions of at most about 150 elements, evenly spread: enough of a large input. */
function sample(size: number): number[] {
  const step = size > 300 ? Math.ceil(size / 150) : 1;
  return Array.from({ length: Math.ceil(size / step) }, (_, i) => i * step);
}

function gradientAt(c: Case, inputs: Inputs, name: string, positions: readonly number[]): Float64Array {
  const whole = float(inputs, name);
  const values = R.ref(
    [positions.length],
    positions.map((i) => whole.data[i] ?? Number.NaN),
  );
  const gouts = c.outputs.map((out) => {
    const { shape, data } = fixture.floats(`${c.id}/gout/${out}`);
    return R.ref(shape, data);
  });
  const moved = (picked: RefTensor) => {
    const tensor = R.ref(whole.shape, whole.data);
    for (const [n, i] of positions.entries()) tensor.data[i] = picked.data[n] ?? Number.NaN;
    return run({ ...inputs, floats: { ...inputs.floats, [name]: tensor } }, c);
  };
  // Neighbouring float64 near 1e9 are 1e-7 apart: a small step would measure nothing but that.
  const largest = Math.max(...run(inputs, c).map(({ data }) => Math.max(...data.map(Math.abs))));
  const [gradient] = R.numericalGradient(moved, [values], gouts, { eps: largest > 1e6 ? 1e-3 : 1e-6 });
  return gradient?.data ?? new Float64Array(0);
}

const forward = suite("references, forward");
const backward = suite("references, gradient");

for (const c of fixture.json.cases) {
  forward(c.id, () => {
    const outputs = run(inputsOf(c), c);
    assert.is(outputs.length, c.outputs.length);
    for (const [n, name] of c.outputs.entries()) {
      const expected = fixture.tensor(`${c.id}/out/${name}`);
      assert.equal(outputs[n]?.shape, expected.shape);
      // The stored value is rounded to f32 once: half a step. The rest is float64 noise of cancelling sums.
      assertClose(outputs[n]?.data ?? [], expected.data, {
        rtol: 6e-8,
        atol: 1e-11,
        name: `${c.id} ${name}`,
      });
    }
  });
  for (const name of c.grads) {
    backward(`${c.id} ${name}`, () => {
      const inputs = inputsOf(c);
      const expected = fixture.floats(`${c.id}/grad/${name}`).data;
      const padding = c.attrs.padding_idx;
      const positions = sample(expected.length);
      let actual = gradientAt(c, inputs, name, positions);
      if (padding !== undefined) {
        const C = float(inputs, name).shape[1] ?? 1;
        actual = actual.map((g, n) => (Math.floor((positions[n] ?? 0) / C) === padding ? 0 : g));
      }
      const wanted = positions.map((i) => expected[i] ?? Number.NaN);
      assertClose(actual, wanted, { atol: 1e-4, rtol: 1e-3, name: `${c.id} d${name}` });
    });
  }
}

forward.run();
backward.run();
