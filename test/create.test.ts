// Tensors made from numbers: values, types, sizes, refusals.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  arange,
  eye,
  full,
  ones,
  onesLike,
  randn,
  Stream,
  type Tensor,
  tidy,
  zeros,
  zerosLike,
} from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const create = suite("creation");

async function valuesOf(made: Tensor): Promise<number[]> {
  const values = [...(await made.data())];
  made.dispose();
  return values;
}

create("full, zeros and ones fill any type", async () => {
  for (const dtype of ["f32", "f16", "bf16", "i32", "u32", "bool"] as const) {
    const [zero, one, value] = [
      zeros(gpu, [3], { dtype }),
      ones(gpu, [3], { dtype }),
      full(gpu, [3], dtype === "bool" ? 1 : 7, { dtype }),
    ];
    for (const made of [zero, one, value]) assert.is(made.dtype, dtype);
    assert.equal(await valuesOf(zero), [0, 0, 0]);
    assert.equal(await valuesOf(one), [1, 1, 1]);
    assert.equal(await valuesOf(value), new Array(3).fill(dtype === "bool" ? 1 : 7));
  }
  assert.equal(await valuesOf(full(gpu, [2], -1.5)), [-1.5, -1.5]);
  assert.equal(await valuesOf(full(gpu, [2], -3, { dtype: "i32" })), [-3, -3]);
  assert.equal(await valuesOf(full(gpu, [2], 0.1, { dtype: "bf16" })), [0.10009765625, 0.10009765625]);
  assert.equal(await valuesOf(full(gpu, [], Number.NEGATIVE_INFINITY)), [Number.NEGATIVE_INFINITY]);
  assert.equal(await valuesOf(zeros(gpu, [2, 0])), []);
});

create("zerosLike and onesLike take shape, type and device", async () => {
  for (const dtype of ["f32", "bf16", "i32"] as const) {
    const x = full(gpu, [2, 1], 5, { dtype });
    for (const [value, like] of [zerosLike, onesLike].entries()) {
      const made = like(x);
      assert.equal([made.dtype, [...made.shape], made.gpu === gpu], [dtype, [2, 1], true]);
      assert.equal(await valuesOf(made), [value, value]);
      assert.is(like(x, { dtype: "u32" }).dtype, "u32");
    }
    x.dispose();
  }
});

create("randn draws what its stream gives", async () => {
  const stream = Stream.seed(3).fold("weights");
  const x = randn(gpu, [3, 5], stream);
  assert.equal([...x.shape], [3, 5]);
  assert.equal(await valuesOf(x), [...stream.normal(15)]);
  assert.is(randn(gpu, [2], stream, { dtype: "f16" }).dtype, "f16");
  assert.throws(() => randn(gpu, [2], undefined as never), /^randn: no stream; pass one/);
  assert.throws(() => randn(gpu, 2 as never, stream), /^randn: 2 is no shape/);
});

create("arange stops before its end, in float64 until it is rounded", async () => {
  assert.equal(await valuesOf(arange(gpu, 0, 4)), [0, 1, 2, 3]);
  assert.equal(await valuesOf(arange(gpu, 2, -3, { step: -2, dtype: "i32" })), [2, 0, -2]);
  assert.equal(await valuesOf(arange(gpu, 0, 1, { step: 0.3 })), [0, 0.3, 0.6, 3 * 0.3].map(Math.fround));
  assert.equal(await valuesOf(arange(gpu, 3, 3)), []);
  assert.equal(await valuesOf(arange(gpu, 3, 1)), []);
  assert.throws(() => arange(gpu, 0, 1, { step: 0 }), /arange: 0 to 1 by 0 does not end/);
});

create("eye has ones on its main diagonal, of any shape and type", async () => {
  assert.equal(await valuesOf(eye(gpu, 2)), [1, 0, 0, 1]);
  assert.equal(await valuesOf(eye(gpu, 2, 3, { dtype: "f16" })), [1, 0, 0, 0, 1, 0]);
  assert.equal(await valuesOf(eye(gpu, 3, 2, { dtype: "i32" })), [1, 0, 0, 1, 0, 0]);
  assert.equal(await valuesOf(eye(gpu, 0, 2)), []);
});

create("what is made goes back, and sizes that are none are refused", () => {
  const before = liveBytes(gpu);
  tidy(() => {
    eye(gpu, 5);
    full(gpu, [4], 2, { dtype: "f16" });
  });
  assert.is(liveBytes(gpu), before);
  assert.throws(
    () => zeros(gpu, [2, -1]),
    (error: Error) => error instanceof ShapeError && /-1 is no size, in \[2, -1\]/.test(error.message),
  );
  assert.throws(() => full(gpu, [2], 1.5, { dtype: "i32" }), /full: 1.5 is no i32/);
});

create.run();
