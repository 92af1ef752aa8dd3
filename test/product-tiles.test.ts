// The tiles that GPUs multiply in: square ones and narrow ones, each with everything that a product may ask for. The op
// table's shapes are too small to reach the square ones.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu, type GpuArray, type HalfType } from "../src/array/index.ts";
import { type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { gemm, type Product } from "../src/ops/gemm.ts";
import { type Form, formsToTry, foursOf, tableForm } from "../src/ops/gemm-forms.ts";
import { stridesOf } from "../src/ops/product.ts";
import { classOf, withForms } from "../src/ops/product-forms.ts";
import { bothKernels } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";
import { leavesTilesToFull, skipped } from "./skip.ts";

const { hardware: gpu } = await bothKernels();
const test = suite("tiles of products");

type Sizes = readonly [M: number, N: number, K: number];
interface Sides {
  readonly ta: boolean;
  readonly tb: boolean;
}

const SIDES: readonly Sides[] = [
  { ta: false, tb: false },
  { ta: false, tb: true },
  { ta: true, tb: false },
  { ta: true, tb: true },
];

// Beyond a tile in every direction, and within it: in fours and odd.
const SHAPES: readonly (readonly [Form, Sizes])[] = [
  ["tiled-narrow", [68, 20, 36]], // tall
  ["tiled-narrow", [67, 17, 35]],
  ["tiled-narrow", [20, 68, 36]], // wide
  ["tiled-narrow", [3, 67, 33]],
  ["tiled-64", [68, 36, 20]],
  ["tiled-64", [35, 67, 19]],
  ["tiled-128", [35, 131, 17]],
];

const held = ({ data, shape }: R.RefTensor): GpuArray => gpu.from(Float32Array.from(data), shape);

/** c of the product in a form, which is not the table's choice for all of these. */
async function multiplied(form: Form, p: Product): Promise<Float32Array> {
  const name = classOf(p, foursOf(p, stridesOf(p)));
  withForms(gpu, new Map([[name, form]]), () =>
    gpu.scope(
      () => gemm(gpu, p),
      () => [],
    ),
  );
  return (await gpu.read(p.c)) as Float32Array;
}

function operands([M, N, K]: Sizes, { ta, tb }: Sides, batch: readonly number[] = []) {
  const a = normal([...batch, ...(ta ? [K, M] : [M, K])], 1);
  const b = normal([...batch, ...(tb ? [N, K] : [K, N])], 2);
  const layout = { M, N, K, transposeA: ta, transposeB: tb } as const;
  return { a, b, layout, layoutA: { stride: M * K }, layoutB: { stride: K * N } };
}

const isLong = leavesTilesToFull(gpu);
if (isLong) skipped(test, "all tiles", "compiled for a second each here: npm run test:full -- product-tiles");

for (const [form, sizes] of isLong ? [] : SHAPES) {
  const [M, N, K] = sizes;
  const title = `${form}, ${M} x ${K} times ${K} x ${N}`;

  test(`${title}: every transposition of a batch, scaled and added to what is there`, async () => {
    for (const sides of SIDES) {
      const { a, b, layout, layoutA, layoutB } = operands(sizes, sides, [2]);
      const before = normal([2, M, N], 3);
      const [left, right, c] = [held(a), held(b), held(before)];
      const p = { ...layout, a: left, b: right, c, batch: 2, layoutA, layoutB, scale: 0.5, accumulate: true };
      const product = R.matmul(a, b, sides).data;
      const expected = before.data.map((v, i) => v + 0.5 * (product[i] ?? Number.NaN));
      assertWithin(await multiplied(form, p), expected, () => 2e-5, `${sides.ta}, ${sides.tb}`);
      for (const x of [left, right, c]) x.release();
    }
  });

  test(`${title}: halves, a bias, an activation, and what it is applied to`, async () => {
    for (const [type, tb] of [["f16", true] as const, ["bf16", false] as const]) {
      const { a, b, layout } = operands(sizes, { ta: false, tb });
      const { half, values } = await halved(b, type);
      const bias = normal([N], 4);
      const [left, add, c, z] = [held(a), held(bias), gpu.empty([M, N]), gpu.empty([M, N])];
      const p = { ...layout, a: left, b: half.array, c, z, bias: add, activation: "relu" } as const;
      const sums = R.matmul(a, values, { tb, bias }).data;
      assertWithin(
        await multiplied(form, p),
        sums.map((v) => Math.max(v, 0)),
        () => 2e-5,
        type,
      );
      assertWithin((await gpu.read(z)) as Float32Array, sums, () => 2e-5, `${type}, z`);
      for (const x of [left, add, c, z]) x.release();
      half.dispose();
    }
  });

  test(`${title}: the expert that a route picks, and the groups that one collects`, async () => {
    const route = gpu.from(Int32Array.of(2, 0, 2), [3]);
    const { a, b, layout, layoutA, layoutB } = operands(sizes, { ta: true, tb: false }, [3]);
    const [left, right, c] = [held(a), held(b), gpu.empty([3, M, N])];
    const part = (x: R.RefTensor, i: number) => R.slice(x, [[i, i + 1]]);
    const times = (i: number, j: number) => [...R.matmul(part(a, i), part(b, j), { ta: true }).data];
    const p = { ...layout, a: left, b: right, c, batch: 3, layoutA, layoutB, route };
    const picked = [times(0, 2), times(1, 0), times(2, 2)].flat();
    assertWithin(await multiplied(form, { ...p, routing: "pick" }), picked, () => 2e-5, "picked");
    const [first, second] = [times(0, 0), times(2, 2)];
    const collected = [times(1, 1), first.map(() => 0), first.map((v, i) => v + (second[i] ?? Number.NaN))];
    assertWithin(await multiplied(form, { ...p, routing: "collect" }), collected.flat(), () => 3e-5, "both");
    for (const x of [left, right, c, route]) x.release();
  });
}

/** b in 16 bits, and the numbers that are held then. */
async function halved(b: R.RefTensor, type: HalfType): Promise<{ half: Tensor; values: R.RefTensor }> {
  const half = tidy(() => tensor(gpu, Float32Array.from(b.data), b.shape).to(type));
  const data = await tidy(() => half.to("f32")).data();
  return { half, values: R.ref(b.shape, Float64Array.from(data)) };
}

test("up to 32 rows or columns take narrow tiles, and none far beyond is tried in them", () => {
  const array = gpu.empty([1]);
  const of = (M: number, N: number): Product => ({ a: array, b: array, c: array, M, N, K: 999 });
  const traits = new Gpu(gpu.device, { kernels: "hardware", matrices: null });
  const forms = [of(8192, 32), of(4, 1024), of(33, 1024), of(4096, 4096)].map((p) => tableForm(traits, p));
  assert.equal(forms, ["tiled-narrow", "tiled-narrow", "tiled-64", "tiled-128"]);
  assert.ok(formsToTry(traits, of(8192, 64)).includes("tiled-narrow"));
  assert.not.ok(formsToTry(traits, of(8192, 65)).includes("tiled-narrow"));
  array.release();
});

test.run();
