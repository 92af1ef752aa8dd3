// Products of few results and long sums on GPUs: in parts, which are added up in their order.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { Parameter, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const { software, hardware } = await bothKernels();
const test = suite("sums in parts");

function made(gpu: Gpu, { data, shape }: R.RefTensor): Tensor {
  return tensor(gpu, Float32Array.from(data), shape);
}

function dispatchesOf(gpu: Gpu, body: () => Tensor): { readonly y: Tensor; readonly dispatches: number } {
  const before = gpu.device.statistics().dispatches;
  const y = body();
  return { y, dispatches: gpu.device.statistics().dispatches - before };
}

// A sum that parts of 16 n divide, one that they do not, one that single elements are loaded of, and a batch.
const sizes = [
  { batch: [], M: 8, N: 36, K: 1024, dispatches: 2 },
  { batch: [], M: 5, N: 9, K: 1100, dispatches: 3 },
  { batch: [], M: 1, N: 7, K: 2003, dispatches: 3 },
  { batch: [3], M: 6, N: 4, K: 516, dispatches: 3 },
] as const;
for (const { batch, M, N, K, dispatches } of sizes)
  for (const [ta, tb] of [
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ] as const)
    test(`[${[...batch, M, K]}] x [${K}, ${N}], transposed: ${ta}, ${tb}`, async () => {
      const a = normal([...batch, ...(ta ? [K, M] : [M, K])], 1);
      const b = normal([...batch, ...(tb ? [N, K] : [K, N])], 2);
      const [x, w] = [made(hardware, a), made(hardware, b)];
      const times = () => ad.matmul(x, w, { transposeA: ta, transposeB: tb });
      const once = dispatchesOf(hardware, times);
      const again = times();
      assert.is(once.dispatches, dispatches);
      const values = (await once.y.data()) as Float32Array;
      assertWithin(values, R.matmul(a, b, { ta, tb }).data, () => 3e-4, "product");
      assertBitEqual((await again.data()) as Float32Array, values, "second run");
      for (const each of [x, w, once.y, again]) each.dispose();
    });

test("weights in 16 bits", async () => {
  const [a, b] = [normal([6, 1100], 1), normal([9, 1100], 2)];
  const x = made(hardware, a);
  const half = tidy(() => made(hardware, b).to("bf16"));
  const held = await tidy(() => half.to("f32")).data();
  const { y, dispatches } = dispatchesOf(hardware, () => ad.matmul(x, half, { transposeB: true }));
  assert.is(dispatches, 3);
  const expected = R.matmul(a, R.ref([9, 1100], Float64Array.from(held)), { tb: true });
  assertWithin(await y.data(), expected.data, () => 3e-4, "product");
  for (const each of [x, half, y]) each.dispose();
});

test("short sums, many results and what is done with them leave a product whole", () => {
  const x = made(hardware, normal([8, 496], 1));
  const wide = made(hardware, normal([16, 2048], 2));
  const bias = made(hardware, normal([16], 3));
  const one = (body: () => Tensor) => dispatchesOf(hardware, () => tidy(body)).dispatches;
  assert.is(
    one(() => ad.matmul(x, x, { transposeB: true })),
    1,
  );
  assert.is(
    one(() => ad.matmul(wide, wide, { transposeA: true })),
    1,
  );
  assert.is(
    one(() => ad.linear(wide, wide, bias)),
    1,
  );
  assert.is(
    one(() => ad.matmul(wide, wide, { transposeB: true, activation: "relu" })),
    1,
  );
  for (const each of [x, wide, bias]) each.dispose();
});

test("few rows or columns take small tiles, however many products there are", () => {
  const times = (batch: number) => {
    const [a, b] = [made(hardware, normal([batch, 3, 5], 1)), made(hardware, normal([batch, 5, 70], 2))];
    for (const x of [a, ad.matmul(a, b), b]) x.dispose();
  };
  times(1);
  const { kernels } = hardware.device.statistics();
  times(200);
  assert.is(hardware.device.statistics().kernels, kernels);
});

test("they are written to the places of parameters in an arena", async () => {
  const [rows, out, inputs] = [700, 7, 20];
  const data = { x: normal([rows, inputs], 1), weight: normal([out, inputs], 2), dy: normal([rows, out], 3) };
  const [x, dy] = [made(hardware, data.x), made(hardware, data.dy)];
  const first = Parameter.from(hardware, new Float32Array(3), [3]); // so that the weight does not begin where the arena does
  const weight = Parameter.from(hardware, Float32Array.from(data.weight.data), [out, inputs]);
  const optimiser = new AdamW([first, weight], { lr: 1e-3 });
  ad.linear(x, weight, null).backward(dy);
  const expected = R.matmul(data.dy, data.x, { ta: true }).data;
  assertWithin(await (weight.grad as Tensor).data(), expected, () => 3e-4, "written");
  ad.linear(x, weight, null).backward(dy);
  const twice = expected.map((value) => 2 * value);
  assertWithin(await (weight.grad as Tensor).data(), twice, () => 6e-4, "added");
  optimiser.dispose();
  for (const each of [x, dy, first, weight]) each.dispose();
});

/** Gradients of the weights and biases of a bank of four experts. */
async function bankGradients(gpu: Gpu, route: readonly number[], rows: number): Promise<Float32Array[]> {
  const [M, out, inputs] = [4, 6, 20];
  const x = made(gpu, normal([rows, inputs], 1));
  const [weight, bias] = [made(gpu, normal([M, out, inputs], 2)), made(gpu, normal([M, out], 3))];
  const routes = tensor(gpu, Int32Array.from(route), [route.length]);
  weight.requiresGrad = bias.requiresGrad = true;
  const y = ad.bankLinear(x, weight, bias, routes, { scale: 0.5 });
  const dy = made(gpu, normal([rows, out], 4));
  y.backward(dy);
  const gradients = [weight, bias].map(({ grad }) => grad as Tensor);
  const values = await Promise.all(gradients.map(async (g) => Float32Array.from(await g.data())));
  for (const each of [x, weight, bias, routes, y, dy]) each.dispose();
  return values;
}

for (const route of [[2], [3, 1], [0, 2, 2, 0, 1]])
  test(`the gradients of a bank, route ${route}`, async () => {
    const rows = 600 * route.length;
    const before = hardware.device.statistics().dispatches;
    const actual = await bankGradients(hardware, route, rows);
    const inParts = hardware.device.statistics().dispatches - before;
    const expected = await bankGradients(software, route, rows);
    const whole = software.device.statistics().dispatches - before - inParts;
    assert.ok(inParts > whole, "the sums are cut");
    for (const [i, values] of expected.entries())
      assertWithin(actual[i] as Float32Array, values, () => 3e-4, i === 0 ? "dweight" : "dbias");
    const again = await bankGradients(hardware, route, rows);
    for (const [i, values] of again.entries()) assertBitEqual(values, actual[i] as Float32Array);
  });

test.run();
