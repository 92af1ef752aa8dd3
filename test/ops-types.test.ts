// What the table of floats cannot say: whole numbers and bools, halves, numbers as operands, long sums.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { DType, TypedArray } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels, gpu as openTestGpu } from "./device.ts";
import { normal } from "./ops-table/row.ts";

const gpu = await openTestGpu();
const types = suite("types");

const i32 = (...values: number[]): Tensor => tensor(gpu, Int32Array.from(values));
const u32 = (...values: number[]): Tensor => tensor(gpu, Uint32Array.from(values));
const bool = (...values: number[]): Tensor => tensor(gpu, Uint8Array.from(values));
const f32 = (...values: number[]): Tensor => tensor(gpu, values);

async function read(body: () => Tensor): Promise<TypedArray> {
  const result = tidy(body);
  try {
    return await result.data();
  } finally {
    result.dispose();
  }
}

async function equal(body: () => Tensor, expected: TypedArray, name = ""): Promise<void> {
  assertBitEqual(await read(body), expected, name);
}

function refused(body: () => unknown, message: RegExp): void {
  const { dispatches } = gpu.device.statistics();
  assert.throws(
    () => tidy(() => void body()),
    (error: Error) => error instanceof ShapeError && message.test(error.message),
  );
  assert.is(gpu.device.statistics().dispatches, dispatches, "nothing is recorded");
}

const [LOW, HIGH] = [-(2 ** 31), 2 ** 31 - 1];

types("comparisons are exact for whole numbers of any size, and for bools", async () => {
  await equal(() => ad.lt(i32(LOW, -1, 0, HIGH), i32(HIGH, 0, 0, LOW)), Uint8Array.of(1, 1, 0, 0));
  await equal(() => ad.gt(u32(2 ** 31, 2 ** 32 - 1, 0), u32(HIGH, 0, 1)), Uint8Array.of(1, 1, 0));
  // Neighbours beyond 2^24 are one number as f32.
  await equal(() => ad.eq(i32(16777217, 16777216), 16777216), Uint8Array.of(0, 1));
  await equal(() => ad.ne(bool(0, 1, 1), bool(1, 1, 0)), Uint8Array.of(1, 0, 1));
  await equal(() => ad.ge(u32(4294967295, 7), 4294967295), Uint8Array.of(1, 0));
});

types("a number is compared as the tensor's type holds it", async () => {
  for (const dtype of ["f32", "f16", "bf16"] as const)
    await equal(() => ad.eq(tensor(gpu, [0.1, 0.2], [2], { dtype }), 0.1), Uint8Array.of(1, 0), dtype);
  refused(() => ad.eq(i32(1), 0.5), /eq: 0.5 is no i32; cast the tensor with to\("f32"\)/);
  refused(() => ad.lt(u32(1), -1), /lt: -1 is no u32/);
  refused(() => ad.eq(bool(1), 2), /eq: 2 is no bool/);
});

types("whole numbers add, subtract and multiply, and wrap around", async () => {
  await equal(() => i32(1, HIGH, -5).add(i32(2, 1, 5)), Int32Array.of(3, LOW, 0));
  await equal(() => i32(1, LOW).sub(i32(3, 1)), Int32Array.of(-2, HIGH));
  await equal(() => i32(7, 65536).mul(i32(-3, 65537)), Int32Array.of(-21, 65536));
  await equal(() => u32(0, 5).sub(u32(1, 2)), Uint32Array.of(4294967295, 3));
  await equal(() => i32(1, 2, 3, 4, 5).add(10), Int32Array.of(11, 12, 13, 14, 15));
  await equal(() => i32(1, 2, 3, 4, 5).sub(2), Int32Array.of(-1, 0, 1, 2, 3));
  await equal(() => u32(3, 4).mul(2), Uint32Array.of(6, 8));
  const grid = tensor(gpu, Int32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
  await equal(
    () => grid.add(tensor(gpu, Int32Array.of(10, 20), [2, 1])),
    Int32Array.of(11, 12, 13, 24, 25, 26),
  );
  const fours = tensor(
    gpu,
    Int32Array.from({ length: 24 }, (_, i) => i),
    [3, 8],
  );
  const row = Int32Array.of(0, 100, 200, 300, 400, 500, 600, 700);
  await equal(
    () => fours.add(tensor(gpu, row)),
    Int32Array.from({ length: 24 }, (_, i) => i + (i % 8) * 100),
  );
  for (const made of [grid, fours]) made.dispose();
});

types("arithmetic that whole numbers have not is refused by name", () => {
  refused(() => i32(1).add(f32(1)), /add: i32 and f32 do not mix; cast one with to\(\)/);
  refused(() => i32(1).add(u32(1)), /add: i32 and u32 do not mix/);
  refused(() => bool(1).add(bool(1)), /add: input 0 is bool, expected f32, i32 or u32/);
  refused(() => i32(4).div(i32(2)), /div: input 0 is i32, expected f32; cast it with to\("f32"\)/);
  refused(() => i32(4).add(0.5), /add: 0.5 is no i32/);
  refused(() => ad.maximum(i32(1), f32(1)), /maximum: i32 and f32 do not mix/);
});

types("larger, smaller and extremes of whole numbers", async () => {
  await equal(() => ad.maximum(i32(LOW, 3), i32(HIGH, -3)), Int32Array.of(HIGH, 3));
  await equal(() => ad.minimum(u32(2 ** 31, 3), u32(1, 2 ** 32 - 1)), Uint32Array.of(1, 3));
  for (const [make, values] of [
    [i32, [3, LOW, HIGH, -1]],
    [u32, [3, 0, 2 ** 32 - 1, 2 ** 31]],
  ] as const) {
    const sorted = [...values].sort((a, b) => a - b);
    const kind = make === i32 ? Int32Array : Uint32Array;
    await equal(() => make(...values).max(), kind.of(sorted[3] as number));
    await equal(() => make(...values).min(), kind.of(sorted[0] as number));
    await equal(() => make(...values).argmax(), Int32Array.of(2));
    await equal(() => ad.argmin(make(...values)), Int32Array.of(1));
    const order = sorted.map((value) => values.indexOf(value));
    await equal(() => ad.argsort(make(...values)), Int32Array.from(order));
    await equal(() => ad.sort(make(...values)).values, kind.from(sorted));
    await equal(() => ad.topK(make(...values), 2).indices, Int32Array.from(order.reverse().slice(0, 2)));
    await equal(() => ad.topK(make(...values), 2).values, kind.from(sorted.reverse().slice(0, 2)));
  }
  await equal(() => bool(0, 1, 0).max(), Uint8Array.of(1));
  await equal(() => bool(1, 1, 0).min(), Uint8Array.of(0));
});

types("running sums of whole numbers", async () => {
  await equal(() => ad.cumsum(i32(1, -2, 3, HIGH), 0), Int32Array.of(1, -1, 2, LOW + 1));
  await equal(() => ad.cumsum(u32(1, 2, 3), 0, { reverse: true }), Uint32Array.of(6, 5, 3));
  const ones = Int32Array.from({ length: 5000 }, () => 1);
  await equal(
    () => ad.cumsum(tensor(gpu, ones), 0, { exclusive: true }),
    ones.map((_, i) => i),
  );
  refused(() => ad.cumsum(bool(1), 0), /cumsum: input 0 is bool; cast it with to\("i32"\)/);
});

types("where moves bits of any type, and takes bool and whole numbers as conditions", async () => {
  const nan = new Float32Array(Uint32Array.of(0x7f800001, 0x80000000).buffer);
  await equal(() => ad.where(bool(1, 0), tensor(gpu, nan), tensor(gpu, nan)), nan);
  await equal(() => ad.where(bool(1, 0), i32(LOW, 1), i32(2, HIGH)), Int32Array.of(LOW, HIGH));
  await equal(() => ad.where(i32(-1, 0), 5, i32(1, 2)), Int32Array.of(5, 2));
  await equal(() => ad.where(bool(1, 0), 1.5, -2), Float32Array.of(1.5, -2));
  await equal(() => ad.where(bool(1, 0), bool(1, 1), 0), Uint8Array.of(1, 0));
  refused(() => ad.where(f32(1), 1, 2), /where: input 0 is f32, expected bool/);
  refused(() => ad.where(bool(1), i32(1), f32(2)), /where: i32 and f32 do not mix/);
  refused(() => ad.where(bool(1), i32(1), 0.5), /where: 0.5 is no i32/);
  refused(() => ad.logicalAnd(bool(1), i32(1)), /logicalAnd: input 1 is i32, expected bool/);
});

types("extremes, order and choices of halves are their own values", async () => {
  for (const dtype of ["f16", "bf16"] as const) {
    const half = (): Tensor => tensor(gpu, [1.5, -2, Number.NaN, 0.25], [2, 2], { dtype });
    const result = tidy(() => half().max(1));
    assert.is(result.dtype, dtype as DType);
    assertBitEqual((await result.data()).slice(0, 1), Float32Array.of(1.5));
    assert.ok(Number.isNaN((await result.data())[1]));
    result.dispose();
    await equal(() => ad.sort(half()).values.slice(0, 0, 1), Float32Array.of(-2, 1.5));
    await equal(() => ad.isNaN(half()), Uint8Array.of(0, 0, 1, 0));
    await equal(() => ad.maskedFill(half(), ad.isNaN(half()), 7).slice(0, 1, 2), Float32Array.of(7, 0.25));
  }
});

types("statistics of halves are computed in f32", async () => {
  const values = Float32Array.from(normal([64], 1, { mean: 100 }).data, Math.fround);
  for (const dtype of ["f16", "bf16"] as const) {
    const half = (): Tensor => tensor(gpu, values, [64], { dtype });
    const [wide] = await read(() => ad.variance(half().to("f32")).to(dtype));
    const [own] = await read(() => ad.variance(half()));
    assert.is(own, wide, dtype);
  }
  const many = new Float32Array(2000).fill(100);
  assert.is(
    (await read(() => tensor(gpu, many, [2000], { dtype: "f16" }).mean()))[0],
    100,
    "a sum beyond it",
  );
  const [length] = await read(() => ad.norm(tensor(gpu, [300, 400], [2], { dtype: "f16" })));
  assert.is(length, 500, "a square beyond the largest half");
});

/** The gradient of a leaf, which the next backward starts afresh. */
async function taken(x: Tensor): Promise<TypedArray> {
  const { grad } = x;
  if (!grad) throw new Error("no gradient");
  const values = await grad.data();
  x.grad = null;
  return values;
}

types("the gradients of extremes go in equal shares to equal elements", async () => {
  const x = tensor(gpu, [3, 1, 3, 3, -2, -2], [2, 3]);
  x.requiresGrad = true;
  tidy(() => x.max(1).sum().backward());
  assertBitEqual(await taken(x), Float32Array.of(0.5, 0, 0.5, 1, 0, 0));
  tidy(() => x.max().mul(6).backward());
  assertBitEqual(await taken(x), Float32Array.of(2, 0, 2, 2, 0, 0));
  x.dispose();
});

types("gradients that would be NaN where a norm or a deviation is 0", async () => {
  const x = tensor(gpu, [0, 0, 3, 4], [2, 2]);
  x.requiresGrad = true;
  tidy(() => ad.norm(x, 1).sum().backward());
  assertBitEqual(await taken(x), Float32Array.of(0, 0, Math.fround(0.6), Math.fround(0.8)));
  tidy(() => ad.std(x, 1).sum().backward());
  const [a, b] = await taken(x);
  assert.equal([a, b], [0, 0]);
  x.dispose();
});

types("the rows of values that were chosen get the gradient, and a mask blocks it", async () => {
  const x = tensor(gpu, [5, 1, 7, 3], [2, 2]);
  x.requiresGrad = true;
  tidy(() => {
    const { values } = ad.topK(x, 1);
    values
      .mul(ad.tensor(gpu, [10, 20], [2, 1]))
      .sum()
      .backward();
  });
  assertBitEqual(await taken(x), Float32Array.of(10, 0, 20, 0));
  tidy(() => ad.maskedFill(x, ad.gt(x, 4), 0).sum().backward());
  assertBitEqual(await taken(x), Float32Array.of(0, 1, 0, 1));
  x.dispose();
});

types("a product of integers is one, of nothing too", async () => {
  const x = tensor(gpu, Int32Array.of(2, -3, 4, 5, 0, 7), [2, 3]);
  const results = [ad.prod(x, 1), ad.prod(x.slice(1, 0, 0), 1), ad.prod(x.slice(0, 0, 1))];
  assert.equal(
    results.map(({ dtype }) => dtype),
    ["i32", "i32", "i32"],
  );
  const values = await Promise.all(results.map((y) => y.data()));
  assert.equal(
    values.map((y) => [...y]),
    [[-24, 0], [1, 1], [-24]],
  );
});

types("a long sum is as good as its parts, and the same each time", async () => {
  const n = 3_000_001;
  const values = new Float32Array(n).fill(0.1);
  const expected = n * Math.fround(0.1);
  for (const device of Object.values(await bothKernels())) {
    const x = tensor(device, values);
    const sums: number[] = [];
    for (let run = 0; run < 2; run++) {
      const sum = x.sum();
      sums.push(await sum.item());
      sum.dispose();
    }
    x.dispose();
    // Three levels of at most 32 additions one after another.
    const error = Math.abs((sums[0] as number) - expected) / expected;
    assert.ok(error < 48 * 2 ** -24, `${sums[0]}, ${expected}`);
    assert.is(sums[1], sums[0]);
  }
});

types.run();
