// What the ops fixture does not reach: values worked out on paper, edges, and identities.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assertClose } from "./compare.ts";
import { loadFixture } from "./fixtures.ts";
import { erf, erfc } from "./reference/erf.ts";
import type { RefTensor } from "./reference/index.ts";
import * as R from "./reference/index.ts";

const data = ({ data }: { data: ArrayLike<number> }) => Array.from(data);
const close = (actual: RefTensor, expected: ArrayLike<number>, atol = 1e-14) =>
  assertClose(actual.data, expected, { atol, rtol: 1e-14 });

interface ByHand {
  readonly adapter_mix_d2_r1_M2_shareUp: {
    readonly Wd: readonly number[][][];
    readonly bd: readonly number[][];
    readonly Wu: readonly number[][];
    readonly bu: readonly number[];
    readonly x: readonly number[];
    readonly gelu_erf: Readonly<Record<"module0" | "module1" | "merged", readonly number[]>>;
    readonly gelu_tanh: Readonly<Record<"module0" | "module1" | "merged", readonly number[]>>;
  };
  readonly symKL: readonly {
    readonly z1: readonly number[][];
    readonly z2: readonly number[][];
    readonly value: number;
    readonly grad_z1_detached: readonly number[][];
  }[];
  readonly label_smoothing: {
    readonly z: readonly number[];
    readonly target: number;
    readonly eps: number;
    readonly value: number;
    readonly ce: number;
  };
  readonly masked_mean: {
    readonly rows: readonly number[][];
    readonly targets: readonly number[];
    readonly mask: readonly number[];
    readonly eps: number;
    readonly value: number;
  };
}
const byHand: ByHand = JSON.parse(
  readFileSync(new URL("golden/adamix_by_hand.json", import.meta.url), "utf8"),
);

const special = suite("reference erf");
// x, erf, erfc from Python 3.11's math module.
const erfValues = [
  [1e-300, 1.1283791670955126e-300, 1.0],
  [1e-8, 1.1283791670955126e-8, 0.9999999887162083],
  [0.1, 0.1124629160182849, 0.8875370839817152],
  [0.5, 0.5204998778130465, 0.4795001221869535],
  [0.9, 0.7969082124228322, 0.20309178757716786],
  [1, 0.8427007929497149, 0.15729920705028513],
  [1.5, 0.9661051464753108, 0.033894853524689274],
  [1.99, 0.995111413199617, 0.004888586800383003],
  [2, 0.9953222650189527, 0.004677734981047265],
  [2.01, 0.9955248493552482, 0.004475150644751763],
  [3, 0.9999779095030014, 2.2090496998585438e-5],
  [4.5, 0.9999999998033839, 1.9661604415428873e-10],
  [6, 1.0, 2.1519736712498916e-17],
  [10, 1.0, 2.088487583762545e-45],
  [26, 1.0, 5.663192408856143e-296],
] as const;

special("erf and erfc agree with the C library to 5e-16, and odd symmetry holds", () => {
  for (const [x, value, complement] of erfValues) {
    assertClose([erf(x), erf(-x)], [value, -value], { atol: 5e-16, rtol: 3e-16, name: `erf(${x})` });
    assertClose([erfc(x), erfc(-x)], [complement, 1 + value], { atol: 5e-16, name: `erfc(${x})` });
    if (x >= 2) assertClose([erfc(x)], [complement], { rtol: 1e-14, name: `erfc(${x})` });
  }
});

special("the ends and NaN", () => {
  assert.equal([erf(0), erf(Infinity), erf(-Infinity), erf(Number.NaN)], [0, 1, -1, Number.NaN]);
  assert.equal([erfc(Infinity), erfc(-Infinity)], [0, 2]);
});

special.run();

const pointwise = suite("reference pointwise");

pointwise("softplus, silu, gelu and sigmoid stay finite far out", () => {
  const x = R.ref([4], [-1000, -40, 40, 1000]);
  close(R.softplus(x), [0, Math.exp(-40), 40, 1000], 1e-30);
  close(R.silu(x), [0, -40 * Math.exp(-40), 40, 1000], 1e-30);
  close(R.sigmoid(x), [0, Math.exp(-40), 1, 1], 1e-30);
  close(R.gelu(x), [0, 0, 40, 1000], 1e-30);
  close(R.geluTanh(x), [0, 0, 40, 1000], 1e-30);
});

pointwise("NaN passes through every unary op, relu and clamp included", () => {
  const nan = R.ref([1], [Number.NaN]);
  const all = [
    R.neg,
    R.abs,
    R.exp,
    R.log,
    R.sqrt,
    R.rsqrt,
    R.square,
    R.recip,
    R.relu,
    R.gelu,
    R.geluTanh,
    R.silu,
  ];
  for (const f of [...all, R.tanh, R.sigmoid, R.softplus, R.erf]) assert.equal(data(f(nan)), [Number.NaN]);
  assert.equal(data(R.clamp(nan, { min: -1, max: 1 })), [Number.NaN]);
});

pointwise("pow takes any exponent, and signs as JavaScript has them", () => {
  close(R.powNumber(R.ref([3], [-2, 4, 9]), 3), [-8, 64, 729]);
  close(R.powNumber(R.ref([2], [4, 9]), -0.5), [0.5, 1 / 3]);
});

pointwise("maximum, minimum, where and maskedFill broadcast", () => {
  const row = R.ref([3], [1, 5, 3]);
  const column = R.ref([2, 1], [2, 4]);
  assert.equal(data(R.maximum(row, column)), [2, 5, 3, 4, 5, 4]);
  assert.equal(data(R.minimum(row, column)), [1, 2, 2, 1, 4, 3]);
  assert.equal(data(R.where(R.ref([3], [1, 0, 1]), column, row)), [2, 5, 2, 4, 5, 4]);
  assert.equal(data(R.maskedFill(row, R.ref([2, 3], [0, 1, 0, 1, 0, 0]), -9)), [1, -9, 3, -9, 5, 3]);
  assert.throws(() => R.add(row, R.ref([2])), /\[3\] and \[2\] differ/);
});

pointwise.run();

const shapes = suite("reference reductions and layout");

shapes("variance divides by n, or by n - 1; several axes from either end", () => {
  const x = R.ref([2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(data(R.variance(x, { dims: [0, -1], keepDim: true })), [4.25, 4.25]);
  close(R.variance(x, { dims: [0, 2], unbiased: true }), [17 / 3, 17 / 3]);
  assert.equal(R.variance(x, { dims: [0, -1], keepDim: true }).shape, [1, 2, 1]);
  assert.equal(R.max(x), R.ref([], [8]));
});

shapes("argmax takes the first of equals, along any dimension", () => {
  const x = R.ref([2, 3], [1, 7, 7, 4, 0, 7]);
  assert.equal(R.argmax(x), R.indices([2], [1, 2]));
  assert.equal(R.argmax(x, { dim: 0 }), R.indices([3], [1, 0, 0]));
});

shapes("split by sizes and concat undo each other", () => {
  const x = R.ref([2, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const pieces = R.split(x, [1, 3, 1], { dim: -1 });
  assert.equal(pieces.map(data), [
    [0, 5],
    [1, 2, 3, 6, 7, 8],
    [4, 9],
  ]);
  assert.equal(R.concat(pieces, { dim: 1 }), x);
});

shapes("reshape infers one length, stack adds a dimension at the end too", () => {
  assert.equal(R.reshape(R.ref([2, 6]), [3, -1]).shape, [3, 4]);
  assert.equal(R.stack([R.ref([2], [1, 2]), R.ref([2], [3, 4])], { dim: -1 }), R.ref([2, 2], [1, 3, 2, 4]));
});

shapes.run();

const layers = suite("reference layers");

layers("attention over joined heads is attention over each head", () => {
  const fixture = loadFixture("ops");
  const [q, k, v, y] = ["in/q", "in/k", "in/v", "out/y"].map((key) => {
    const { shape, data } = fixture.floats(`attention_causal/${key}`);
    return R.ref(shape, data); // [B, H, T, D]
  }) as [RefTensor, RefTensor, RefTensor, RefTensor]; // four keys, four tensors
  const [B = 0, H = 0, T = 0, D = 0] = q.shape;
  const join = (x: RefTensor) => R.reshape(R.permute(x, [0, 2, 1, 3]), [B, T, H * D]);
  const joined = R.attention(join(q), join(k), join(v), { heads: H, causal: true });
  assert.equal(joined.shape, [B, T, H * D]);
  assertClose(joined.data, join(y).data, { rtol: 6e-8, atol: 1e-11 });
});

layers("a query whose keys are all masked attends uniformly; causal looks back over earlier keys", () => {
  const q = R.ref([1, 1, 2, 1], [1, 1]);
  const k = R.ref([1, 1, 3, 1], [0, 0, 0]);
  const v = R.ref([1, 1, 3, 1], [3, 6, 12]);
  close(R.attention(q, k, v, { mask: R.keyMask(R.ref([1, 3], [0, 0, 0])) }), [7, 7]);
  close(R.attention(q, k, v, { mask: R.keyMask(R.ref([1, 3], [1, 0, 1])) }), [7.5, 7.5]);
  close(R.attention(q, k, v, { causal: true }), [4.5, 7]);
  const keep = { mask: R.ref([1, 1, 2, 3], [1, 0, 1, 0, 0, 0]), p: 0.5 };
  close(R.attention(q, k, v, { keep }), [10, 0]);
});

layers("a bank takes the routed expert for each group of rows, and averages to the merged module", () => {
  const { Wd, bd, Wu, bu, x, gelu_erf: exact, gelu_tanh: tanh } = byHand.adapter_mix_d2_r1_M2_shareUp;
  const down = R.ref([2, 1, 2], Wd.flat(2));
  const downBias = R.ref([2, 1], bd.flat());
  const up = R.ref([1, 2, 1], Wu.flat());
  const upBias = R.ref([1, 2], bu);
  const adapter = (w: RefTensor, b: RefTensor, route: number[], act: (x: RefTensor) => RefTensor) => {
    const rows = R.expand(R.ref([1, 2], x), [route.length, 2]);
    const hidden = act(R.bankLinear(rows, w, b, route));
    return R.add(rows, R.bankLinear(hidden, up, upBias, [0]));
  };
  const merged = [
    R.mean(down, { dims: [0], keepDim: true }),
    R.mean(downBias, { dims: [0], keepDim: true }),
  ] as const;
  for (const [act, golden] of [
    [R.gelu, exact],
    [R.geluTanh, tanh],
  ] as const) {
    const routed = adapter(down, downBias, [1, 0, 1], act);
    close(routed, [...golden.module1, ...golden.module0, ...golden.module1], 1e-13);
    close(adapter(...merged, [0], act), golden.merged, 1e-13);
  }
  assert.throws(() => R.bankLinear(R.ref([3, 2]), down, null, [0, 1]), /3 rows do not split into 2 groups/);
  assert.throws(() => R.bankLinear(R.ref([2, 2]), down, null, [0, 2]), /route\[1\] is 2 of 2 experts/);
});

layers.run();

const losses = suite("reference losses");

losses("symmetric KL and its stopped gradient are the values worked out on paper", () => {
  for (const { z1, z2, value, grad_z1_detached: gradient } of byHand.symKL) {
    const shape = [z1.length, z1[0]?.length ?? 0];
    const [p, q] = [R.ref(shape, z1.flat()), R.ref(shape, z2.flat())] as const;
    close(R.symmetricKL(p, q), [value], 1e-13);
    const stopped = (x: RefTensor) => R.symmetricKL(x, q, { targets: [p, q] });
    const [actual] = R.numericalGradient(stopped, [p], R.ref([], 1));
    assertClose(actual?.data ?? [], gradient.flat(), { atol: 1e-9 });
  }
});

losses("smoothed and masked cross-entropy are the values worked out on paper", () => {
  const { z, target, eps, value, ce } = byHand.label_smoothing;
  const logits = R.ref([1, 3], z);
  const label = R.indices([1], [target]);
  close(R.crossEntropy(logits, label), [ce]);
  close(R.crossEntropy(logits, label, { labelSmoothing: eps }), [value]);
  const m = byHand.masked_mean;
  const labels = R.indices([3], m.targets);
  const rows = R.ref([3, 3], m.rows.flat());
  close(R.maskedCrossEntropy(rows, labels, R.ref([3], m.mask), { labelSmoothing: m.eps }), [m.value]);
});

losses("a mean over no counted row is NaN, a sum is 0", () => {
  const labels = R.indices([2], [-100, -100]);
  assert.equal(data(R.crossEntropy(R.ref([2, 3]), labels)), [Number.NaN]);
  assert.equal(data(R.crossEntropy(R.ref([2, 3]), labels, { reduction: "sum" })), [0]);
});

losses.run();
