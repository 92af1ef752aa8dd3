// Large products on software adapters, whose operands are packed into textures: every form against float64 where sizes
// are multiples of nothing, slices, memory, capture. Where subgroups do not have eight lanes the plain kernels run: the
// same has to hold.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu, type TypedArray } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { capture, noGrad, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { memory, trim } from "../src/gpu/index.ts";
import { PANEL_LANES } from "../src/ops/gemm-panels.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const test = suite("products in panels");
const { software: gpu } = await bothKernels();
const packs = gpu.subgroupSize === PANEL_LANES;

function onDevice({ shape, data }: R.RefTensor, device = gpu): Tensor {
  return tensor(device, Float32Array.from(data), shape);
}

/** Sums of K terms of size 1, in f32. */
const bound = (K: number): number => 2 ** -23 * (8 + 2 * K ** 0.5) * K ** 0.5;

interface Form {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}
const forms: readonly Form[] = [
  {},
  { transposeB: true },
  { transposeA: true },
  { transposeA: true, transposeB: true },
];
const showForm = ({ transposeA, transposeB }: Form): string =>
  `${transposeA ? "aᵀ" : "a"} ${transposeB ? "bᵀ" : "b"}`;

// Multiples of nothing; of four but not of a panel; K alone, or N alone, is not; few rows.
const sizes = [
  [323, 325, 331],
  [324, 340, 332],
  [352, 320, 333],
  [320, 323, 352],
  [65, 772, 708],
] as const;

for (const [M, N, K] of sizes)
  for (const form of forms)
    test(`${showForm(form)}, ${M} x ${K} x ${N}`, async () => {
      const a = normal(form.transposeA ? [K, M] : [M, K], 1);
      const b = normal(form.transposeB ? [N, K] : [K, N], 2);
      const bias = normal([N], 3);
      const [x, w, c] = [onDevice(a), onDevice(b), onDevice(bias)];
      const { dispatches } = gpu.device.statistics();
      const y = noGrad(() => ad.matmul(x, w, { ...form, bias: c, activation: "relu" }));
      assert.is(gpu.device.statistics().dispatches - dispatches, packs ? 3 : 1);
      const product = R.matmul(a, b, { ta: form.transposeA, tb: form.transposeB });
      const expected = product.data.map((v, i) => Math.max(0, v + (bias.data[i % N] ?? Number.NaN)));
      assertWithin(await y.data(), expected, () => bound(K), showForm(form));
      for (const used of [x, w, c, y]) used.dispose();
    });

test("what lies beside a row or column is of no matter to it", async () => {
  const [M, N, K] = [323, 325, 331];
  const [a, b] = [normal([M, K], 1), normal([K, N], 2)];
  for (let k = 0; k < K; k++) {
    a.data[(M - 1) * K + k] = Number.POSITIVE_INFINITY;
    b.data[k * N + N - 1] = Number.NaN;
  }
  const y = tidy(() => noGrad(() => ad.matmul(onDevice(a), onDevice(b))));
  const data = await y.data();
  y.dispose();
  for (let m = 0; m < M - 1; m++)
    for (let n = 0; n < N - 1; n++) assert.ok(Number.isFinite(data[m * N + n]), `[${m}, ${n}]`);
});

test("halves are read as they are stored", async () => {
  const [M, N, K] = [321, 333, 330];
  const [a, b] = [normal([M, K], 1), normal([N, K], 2)];
  for (const dtype of ["f16", "bf16"] as const) {
    const half = tensor(gpu, Float32Array.from(b.data), [N, K], { dtype });
    const wide = half.to("f32");
    const stored = R.ref([N, K], [...(await wide.data())]);
    const y = tidy(() => noGrad(() => ad.linear(onDevice(a), half)));
    assertWithin(await y.data(), R.matmul(a, stored, { tb: true }).data, () => bound(K), dtype);
    for (const used of [half, wide, y]) used.dispose();
  }
});

test("an operand that is too large for one texture is packed in slices, with the same bits", async () => {
  // 2 MiB hold 512 packed rows of 1024, and 513 rows of 1021 as they are.
  const narrow = new Gpu(gpu.device, { kernels: "software", maxBindingBytes: 2 ** 21 });
  const [M, N, K] = [65, 513, 1021];
  const run = async (device: Gpu): Promise<{ y: TypedArray; count: number }> => {
    const [a, b, bias] = [
      onDevice(normal([M, K], 1), device),
      onDevice(normal([N, K], 2), device),
      onDevice(normal([N], 3), device),
    ];
    const { dispatches } = gpu.device.statistics();
    const y = noGrad(() => ad.linear(a, b, bias));
    const count = gpu.device.statistics().dispatches - dispatches;
    const result = await y.data();
    for (const used of [a, b, bias, y]) used.dispose();
    return { y: result, count };
  };
  const [whole, slices] = [await run(gpu), await run(narrow)];
  assert.equal([whole.count, slices.count], packs ? [3, 5] : [1, 1]);
  assertBitEqual(slices.y, whole.y, "slices");
});

test("a captured step keeps its textures, whatever is multiplied or trimmed between its runs", async () => {
  const [x, w] = [onDevice(normal([330, 340], 1)), onDevice(normal([350, 340], 2))];
  const step = capture(gpu, () => noGrad(() => ad.linear(x, w)));
  step.run();
  const first = await step.output.data();
  for (let i = 0; i < 3; i++) {
    // Larger than all before: its operands take new textures.
    const size = 400 + 300 * i;
    const [a, b] = [onDevice(normal([size, 1024], 3)), onDevice(normal([1024, size], 4))];
    noGrad(() => ad.matmul(a, b)).dispose();
    a.dispose();
    b.dispose();
    if (i === 1) trim(gpu);
    step.run();
    assertBitEqual(await step.output.data(), first, `run ${i + 2}`);
  }
  step.dispose();
  x.dispose();
  w.dispose();
});

test("textures count as memory that waits for reuse, and go back with it", async () => {
  trim(gpu);
  const before = memory(gpu);
  const [a, b] = [onDevice(normal([512, 512], 1)), onDevice(normal([512, 512], 2))];
  noGrad(() => ad.matmul(a, b)).dispose();
  a.dispose();
  b.dispose();
  await gpu.device.recorder.throttle();
  assert.is(memory(gpu).liveBytes, before.liveBytes);
  trim(gpu);
  assert.is(memory(gpu).pooledBytes, before.pooledBytes);
});

test.run();
