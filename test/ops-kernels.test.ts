// What ops are built from, and what one row of the table cannot say: grids of two dimensions, memory beside an
// array, experts.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { GpuArray, TypedArray } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { tensor, tidy } from "../src/autograd/index.ts";
import { grid1d } from "../src/gpu/index.ts";
import { accumulate, contiguous, copyInto, fill, markDrawn, zeros } from "../src/ops/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { bothKernels, gpu as openTestGpu } from "./device.ts";
import { normal } from "./ops-table/row.ts";

const gpu = await openTestGpu();
const test = suite("kernels");

/** 1, 2, 3, ... */
function counting(n: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(n);
  for (let i = 0; i < n; i++) values[i] = i + 1;
  return values;
}

async function taken(array: GpuArray): Promise<TypedArray> {
  const data = await gpu.read(array);
  array.release();
  return data;
}

for (const n of [1, 2, 3, 4, 5, 63, 65, 259, 1023, 4099]) {
  test(`accumulate adds ${n} elements and leaves what follows them alone`, async () => {
    const arena = gpu.from(counting(n + 64).fill(7));
    const total = arena.view([n], 0);
    const x = gpu.from(counting(n + 64));
    const part = x.view([n], 0);
    accumulate(gpu, total, part);
    const result = await gpu.read(arena);
    for (const array of [arena, total, x, part]) array.release();
    assert.equal([...result], [...counting(n).map((v) => v + 7), ...new Array(64).fill(7)]);
  });
}

for (const n of [1, 3, 4, 5, 255, 1023, 1024, 1027, 4099]) {
  test(`fill sets ${n} words and leaves what follows them alone`, async () => {
    const arena = gpu.from(counting(n + 64));
    const part = arena.view([n], 0);
    fill(gpu, part, 0x40000000); // 2
    const expected = counting(n + 64).fill(2, 0, n);
    assertBitEqual(await gpu.read(arena), expected);
    for (const array of [arena, part]) array.release();
  });
}

test("copyInto moves bits between any two layouts", async () => {
  const source = gpu.from(new Uint32Array([0x7fc00001, 0xffffffff, 1, 0x80000000, 5, 6]), [2, 3]);
  const target = gpu.from(new Uint32Array(12));
  // Every second element from the second on, columns first.
  const window = target.view([3, 2], 1, [2, 6]);
  const transposed = source.view([3, 2], 0, [1, 3]);
  copyInto(gpu, transposed, window);
  const expected = [0, 0x7fc00001, 0, 0xffffffff, 0, 1, 0, 0x80000000, 0, 5, 0, 6];
  assert.equal([...(await gpu.read(target))], expected);
  for (const array of [source, target, window, transposed]) array.release();
});

test("contiguous gives the array itself where a kernel can bind it", () => {
  const x = gpu.from(counting(128), [2, 64]);
  assert.is(contiguous(gpu, x), x);
  const second = x.view([64], 64);
  assert.is(contiguous(gpu, second), second);
  const odd = x.view([64], 1);
  const copy = contiguous(gpu, odd);
  assert.is.not(copy, odd);
  for (const array of [x, second, odd, copy]) array.release();
});

test("fill and zeros write every element, and an empty array is none", async () => {
  const x = gpu.from(counting(9));
  fill(gpu, x, 0x40000000);
  assert.equal([...(await taken(x))], new Array(9).fill(2));
  assert.equal([...(await taken(zeros(gpu, [2, 3])))], new Array(6).fill(0));
  assert.equal([...(await taken(zeros(gpu, [0, 3])))], []);
});

test("one-dimensional grids are folded where they are longer than a dimension may be", () => {
  assert.equal(grid1d(0), [1, 1, 1]);
  assert.equal(grid1d(65_535), [65_535, 1, 1]);
  for (const groups of [65_536, 131_071, 10_000_019]) {
    const [x, y, z] = grid1d(groups);
    assert.ok(x <= 65_535 && y <= 65_535 && z === 1 && x * y >= groups && x * y < groups + y);
  }
});

test("grids of more than 65,535 workgroups reach every element", async () => {
  const [rows, columns] = [2101, 2003];
  const x = gpu.from(counting(rows * columns), [rows, columns]);
  const turned = x.view([columns, rows], 0, [1, columns]);
  const copy = contiguous(gpu, turned);
  const data = await gpu.read(copy);
  for (const array of [x, turned, copy]) array.release();
  let wrong = 0;
  for (let c = 0; c < columns; c++) {
    for (let r = 0; r < rows; r++) if (data[c * rows + r] !== r * columns + c + 1) wrong++;
  }
  assert.is(wrong, 0);
});

test("markDrawn marks the slices of its routes, or all of some flags, and no other", async () => {
  const routes = gpu.from(Int32Array.of(3, 0, 3, 9, 1));
  const elsewhere = gpu.from(Int32Array.of(2));
  const drawn = gpu.from(new Uint32Array(192));
  const [first, second, third] = [drawn.view([5]), drawn.view([3], 64), drawn.view([4], 128)];
  const views = [routes.view([3]), routes.view([1], 4)] as const;
  const before = gpu.device.statistics().dispatches;
  markDrawn(gpu, [
    { drawn: first, route: views[0] },
    { drawn: second, route: views[1] },
    { drawn: third, route: null },
  ]);
  assert.is(gpu.device.statistics().dispatches - before, 1);
  const flags = await gpu.read(drawn);
  assert.equal([...flags.subarray(0, 6)], [1, 0, 0, 1, 0, 0]);
  assert.equal([...flags.subarray(63, 68)], [0, 0, 1, 0, 0]);
  assert.equal([...flags.subarray(127, 133)], [0, 1, 1, 1, 1, 0]);
  markDrawn(gpu, [
    { drawn: second, route: elsewhere },
    ...new Array(61).fill({ drawn: first, route: views[1] }),
  ]);
  assert.is(gpu.device.statistics().dispatches - before, 4);
  for (const view of [first, second, third, ...views, routes, elsewhere]) view.release();
  const after = await taken(drawn);
  assert.equal([...after.subarray(0, 6)], [1, 1, 0, 1, 0, 0]);
  assert.equal([...after.subarray(63, 68)], [0, 0, 1, 1, 0]);
});

for (const [name, device] of Object.entries(await bothKernels())) {
  for (const [rows, inputs, outputs] of [[6, 8, 12] as const, [5, 7, 3] as const]) {
    test(`a bank of one expert [${outputs}, ${inputs}] is a linear layer, kernels for ${name}`, async () => {
      const make = (shape: readonly number[], seed: number) => {
        const result = tensor(device, Float32Array.from(normal(shape, seed).data), shape);
        result.requiresGrad = true;
        return result;
      };
      const all: (readonly TypedArray[])[] = [];
      for (const isBank of [false, true]) {
        const x = make([rows, inputs], 1);
        const weight = make(isBank ? [1, outputs, inputs] : [outputs, inputs], 2);
        const bias = make(isBank ? [1, outputs] : [outputs], 3);
        const route = tensor(device, Int32Array.of(0));
        const y = isBank ? ad.bankLinear(x, weight, bias, route) : ad.linear(x, weight, bias);
        tidy(() => ad.square(y).sum().backward());
        const read = async (of: typeof x) => (await of.grad?.data()) ?? new Float32Array();
        all.push([await y.data(), await read(x), await read(weight), await read(bias)]);
        for (const of of [x, weight, bias, route, y]) of.dispose();
      }
      const [[y, dx, dw, db] = [], [bankY, bankDx, bankDw, bankDb] = []] = all;
      if (!(y && dx && dw && db && bankY && bankDx && bankDw && bankDb)) throw new Error("no results");
      assertBitEqual(bankY, y, "y");
      assertBitEqual(bankDx, dx, "dx");
      assertBitEqual(bankDw, dw, "dweight");
      assertClose(bankDb, db, { rtol: 1e-6, atol: 1e-5, name: "dbias" });
    });
  }

  test(`an expert without rows gets a gradient of exact zeros, kernels for ${name}`, async () => {
    for (const [inputs, outputs] of [
      [8, 4],
      [3, 5],
    ] as const) {
      const x = tensor(device, counting(2 * inputs), [2, inputs]);
      const weight = tensor(device, counting(3 * outputs * inputs), [3, outputs, inputs]);
      const bias = tensor(device, counting(3 * outputs), [3, outputs]);
      weight.requiresGrad = bias.requiresGrad = true;
      const route = tensor(device, Int32Array.of(2, 0));
      tidy(() => ad.bankLinear(x, weight, bias, route).sum().backward());
      const dw = (await weight.grad?.data()) ?? [];
      const db = (await bias.grad?.data()) ?? [];
      const size = outputs * inputs;
      assert.equal([...dw.slice(size, 2 * size)], new Array(size).fill(0));
      assert.equal([...db.slice(outputs, 2 * outputs)], new Array(outputs).fill(0));
      assert.ok(dw.slice(0, size).every((v) => v !== 0) && dw.slice(2 * size).every((v) => v !== 0));
      for (const of of [x, weight, bias, route]) of.dispose();
    }
  });
}

test.run();
