// Element types: storage in 16 bits on every adapter, casts, what ops make of them, and their gradients.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bfloat16ToFloat32,
  type DType,
  float32ToBfloat16,
  type Gpu,
  type HalfType,
  halfToFloat32,
  roundToHalf,
} from "../src/array/index.ts";
import {
  concat,
  embedding,
  gelu,
  linear,
  noGrad,
  Parameter,
  Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels, liveBytes, gpu as openTestGpu } from "./device.ts";
import { loadFixture } from "./fixtures.ts";
import { normal, uniform } from "./ops-table/row.ts";

const gpu = await openTestGpu();
const types = suite("dtypes");

const rounders: Readonly<Record<HalfType, (values: Float32Array) => Float32Array>> = {
  f16: (values) => halfToFloat32(roundToHalf(values)),
  bf16: (values) => bfloat16ToFloat32(float32ToBfloat16(values)),
};
const halves = ["f16", "bf16"] as const;

const floats = (n: number, seed: number): Float32Array<ArrayBuffer> =>
  Float32Array.from(normal([n], seed).data);

async function read(body: () => Tensor): Promise<Float32Array> {
  const result = tidy(body);
  try {
    return (await result.data()) as Float32Array;
  } finally {
    result.dispose();
  }
}

types("f16 of the fixture float16, on the device", async () => {
  const golden = loadFixture("float16");
  const { data, shape } = golden.floats("f32");
  const back = golden.floats("back").data;
  assertBitEqual(await read(() => tensor(gpu, Float32Array.from(data), shape).to("f16").to("f32")), back);
  const bits = Uint16Array.from(golden.ints("f16_bits").data);
  assertBitEqual(await read(() => new Tensor(gpu, gpu.from(bits, shape, "f16")).to("f32")), back);
});

for (const dtype of halves) {
  types(`every ${dtype} widens exactly and rounds back to itself`, async () => {
    const bits = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const half = new Tensor(gpu, gpu.from(bits, [bits.length], dtype));
    const expected = await half.data(); // widened on the host
    const wide = half.to("f32");
    assertBitEqual(withoutNaN(await wide.data()), withoutNaN(expected), "widened");
    const again = wide.to(dtype);
    assertBitEqual(withoutNaN(await again.data()), withoutNaN(expected), "rounded");
    for (const made of [half, wide, again]) made.dispose();
  });

  types(`f32 rounds to ${dtype} as on the host: ties, subnormals, overflow, NaN`, async () => {
    const words = Uint32Array.from(uniform([40_000], 3, 0, 2 ** 32).data);
    const ties = Uint32Array.from({ length: 4096 }, (_, i) => (0x33000000 + i * 0x8000) >>> 0);
    const values = new Float32Array(
      Uint32Array.of(...words, ...ties, 0x477fefff, 0x477ff000, 0x7fc00001).buffer,
    );
    const expected = rounders[dtype](values);
    assertBitEqual(withoutNaN(await read(() => tensor(gpu, values).to(dtype))), withoutNaN(expected));
  });

  types(`ops on ${dtype} compute in f32 and round once`, async () => {
    const shape = [3, 5, 7];
    const [a, b] = [rounders[dtype](floats(105, 1)), rounders[dtype](floats(105, 2))];
    const half = (data: Float32Array): Tensor =>
      tensor(gpu, data as Float32Array<ArrayBuffer>, shape, { dtype });
    const full = (data: Float32Array): Tensor => tensor(gpu, data as Float32Array<ArrayBuffer>, shape);
    const both: readonly (readonly [string, (x: Tensor, y: Tensor) => Tensor])[] = [
      ["add", (x, y) => x.add(y)],
      ["mul of a stretched view", (x, y) => x.mul(y.slice(0, 1, 2))],
      ["gelu of a permuted view", (x) => gelu(x.permute(2, 0, 1))],
      ["sum over the middle", (x) => x.sum(1)],
      ["matmul", (x, y) => x.matmul(y, { transposeB: true })],
      ["concat of odd lengths", (x, y) => concat([x, y], 2)],
      ["slice at an odd element", (x) => x.slice(2, 1, 6)],
    ];
    for (const [name, op] of both) {
      const result = tidy(() => op(half(a), half(b)));
      assert.is(result.dtype, dtype, name);
      const expected = rounders[dtype](await read(() => op(full(a), full(b))));
      assertBitEqual(await result.data(), expected, name);
      result.dispose();
      const mixed = tidy(() => op(half(a), full(b)));
      const usesBoth = name.startsWith("add") || name.startsWith("mul") || name.startsWith("matmul");
      if (usesBoth) assert.is(mixed.dtype, "f32", `${name}, mixed`);
      mixed.dispose();
    }
  });

  types(`gradients of ${dtype} tensors have their type, and are f32 sums rounded`, async () => {
    const [a, b] = [rounders[dtype](floats(33, 4)), rounders[dtype](floats(33, 5))];
    const gradients = async (dtype?: DType): Promise<Tensor[]> => {
      const options = dtype ? { dtype } : {};
      const x = tensor(gpu, a as Float32Array<ArrayBuffer>, [33], options);
      const y = tensor(gpu, b as Float32Array<ArrayBuffer>, [33], options);
      for (const leaf of [x, y]) leaf.requiresGrad = true;
      tidy(() => x.mul(y).to("f32").sum().backward());
      return [x, y];
    };
    const [whole, half] = [await gradients(), await gradients(dtype)];
    for (const i of [0, 1]) {
      assert.is(half[i]?.grad?.dtype, dtype);
      const expected = rounders[dtype]((await whole[i]?.grad?.data()) as Float32Array);
      assertBitEqual((await half[i]?.grad?.data()) as Float32Array, expected);
    }
    for (const leaf of [...whole, ...half]) leaf.dispose();
  });

  types(`two gradients of one ${dtype} tensor meet in f32`, async () => {
    const x = tensor(gpu, floats(7, 6), [7], { dtype });
    x.requiresGrad = true;
    tidy(() => x.mul(3).add(x.mul(1.25)).to("f32").sum().backward());
    assertBitEqual(await (x.grad as Tensor).data(), new Float32Array(7).fill(4.25));
    tidy(() => x.to("f32").sum().backward());
    assertBitEqual(await (x.grad as Tensor).data(), new Float32Array(7).fill(5.25), "a second backward");
    x.dispose();
  });

  types(
    `a frozen layer in ${dtype} takes half the memory and gives the f32 product of its values`,
    async () => {
      const [inputs, outputs] = [64, 32];
      const weights = rounders[dtype](floats(inputs * outputs, 7)) as Float32Array<ArrayBuffer>;
      const before = liveBytes(gpu);
      const frozen = Parameter.from(gpu, weights, [outputs, inputs], { dtype });
      assert.is(liveBytes(gpu) - before, inputs * outputs * 2);
      frozen.requiresGrad = false;
      const whole = Parameter.from(gpu, weights, [outputs, inputs]);
      whole.requiresGrad = false;
      const x = tensor(gpu, floats(5 * inputs, 8), [5, inputs]);
      x.requiresGrad = true;
      const run = async (weight: Parameter): Promise<[Float32Array, Float32Array]> => {
        x.grad = null;
        const y = linear(x, weight);
        assert.is(y.dtype, "f32");
        y.backward(tensor(gpu, floats(5 * outputs, 9), [5, outputs]));
        const result = (await y.data()) as Float32Array;
        y.dispose();
        return [result, (await (x.grad as Tensor | null)?.data()) as Float32Array];
      };
      const [a, da] = await run(frozen);
      const [b, db] = await run(whole);
      assertBitEqual(a, b, "forward");
      assertBitEqual(da, db, "gradient of x");
      for (const made of [frozen, whole, x]) made.dispose();
    },
  );
}

for (const dtype of halves) {
  types(`products and look-ups read ${dtype} as it is stored: every kernel, odd sizes, no copy`, async () => {
    // Subnormal halves too: a driver may not flush them.
    const values = (n: number, seed: number): Float32Array<ArrayBuffer> =>
      rounders[dtype](
        floats(n, seed).map((v, i) => (i % 7 === 0 ? v * 2 ** -18 : v)),
      ) as Float32Array<ArrayBuffer>;
    const idsOn = (device: Gpu): Tensor => tensor(device, Int32Array.of(2, 0, 1, 2));
    const cases: readonly (readonly [string, readonly number[], number, (x: Tensor, w: Tensor) => Tensor])[] =
      [
        ["linear", [8, 12], 5, (x, w) => linear(x, w)],
        ["linear of odd sizes", [7, 9], 5, (x, w) => linear(x, w, null, { activation: "relu" })],
        ["linear of one row", [8, 12], 1, (x, w) => linear(x, w)],
        ["linear of one row, odd", [7, 9], 1, (x, w) => linear(x, w)],
        ["matmul", [12, 8], 5, (x, w) => x.matmul(w)],
        ["matmul of odd sizes", [9, 7], 5, (x, w) => x.matmul(w)],
        ["matmul from the left", [12, 8], 5, (x, w) => w.matmul(x, { transposeA: true, transposeB: true })],
        ["embedding", [3, 8], 0, (_x, w) => embedding(w, idsOn(w.gpu))],
        ["embedding of odd rows", [3, 7], 0, (_x, w) => embedding(w, idsOn(w.gpu))],
      ];
    for (const device of Object.values(await bothKernels())) {
      for (const [name, shape, rows, op] of cases) {
        const [first = 0, second = 0] = shape;
        const w = values(first * second, 21);
        const inner = name.startsWith("linear") ? second : first;
        const x = tensor(device, floats(rows * inner, 22), [rows, inner]);
        x.requiresGrad = true;
        const run = async (
          weight: Tensor,
        ): Promise<{ y: Float32Array; dx: Float32Array | null; n: number }> => {
          x.grad = null;
          const before = device.device.statistics().dispatches;
          const y = op(x, weight);
          assert.is(y.dtype, "f32", name);
          if (rows > 0) y.backward(tensor(device, floats(y.size, 23), y.shape));
          const n = device.device.statistics().dispatches - before;
          const data = (await y.data()) as Float32Array;
          y.dispose();
          const dx = (x.grad as Tensor | null)?.data();
          return { y: data, dx: dx ? ((await dx) as Float32Array) : null, n };
        };
        const half = tensor(device, w, shape, { dtype });
        const whole = tensor(device, w, shape);
        const [a, b] = [await run(half), await run(whole)];
        assertBitEqual(a.y, b.y, name);
        if (a.dx && b.dx) assertBitEqual(a.dx, b.dx, `${name}, gradient`);
        // From the left the weight is not where kernels read halves.
        if (name !== "matmul from the left") assert.is(a.n, b.n, `${name}: dispatches`);
        for (const made of [half, whole, x]) made.dispose();
      }
    }
  });
}

types("what backward needs of half inputs is kept in half", () => {
  const n = 4096;
  const x = tensor(gpu, floats(n, 10), [n], { dtype: "f16" });
  x.requiresGrad = true;
  const before = liveBytes(gpu);
  const y = gelu(x);
  assert.is(liveBytes(gpu) - before, 2 * n, "the output alone; the input is saved as it is");
  y.dispose();
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

types("casts between numbers, whole numbers and bools", async () => {
  const x = Float32Array.of(-2.9, -0.5, 0, 0.5, 2.9, 100);
  assert.equal(await read(() => tensor(gpu, x).to("i32")), Int32Array.of(-2, 0, 0, 0, 2, 100));
  assert.equal(await read(() => tensor(gpu, x.map(Math.abs)).to("u32")), Uint32Array.of(2, 0, 0, 0, 2, 100));
  assert.equal(await read(() => tensor(gpu, x).to("bool")), Uint8Array.of(1, 1, 0, 1, 1, 1));
  assert.equal(await read(() => tensor(gpu, Int32Array.of(-7, 0, 3)).to("f32")), Float32Array.of(-7, 0, 3));
  assert.equal(await read(() => tensor(gpu, Int32Array.of(-7, 0, 3)).to("f16")), Float32Array.of(-7, 0, 3));
  assert.equal(await read(() => tensor(gpu, [true, false, true]).to("f32")), Float32Array.of(1, 0, 1));
  assert.equal(await read(() => tensor(gpu, Uint32Array.of(5, 0)).to("bool")), Uint8Array.of(1, 0));
});

types("tensor() casts on the host", async () => {
  assert.equal(await read(() => tensor(gpu, [1.7, -1.7], [2], { dtype: "i32" })), Int32Array.of(1, -1));
  assert.equal(await read(() => tensor(gpu, [0, 3], [2], { dtype: "bool" })), Uint8Array.of(0, 1));
  assert.equal(await read(() => tensor(gpu, [true, false], [2], { dtype: "f32" })), Float32Array.of(1, 0));
  assert.equal(await read(() => tensor(gpu, [1 + 2 ** -12], [1], { dtype: "f16" })), Float32Array.of(1));
});

types("the gradient passes through a cast and back", async () => {
  const x = tensor(gpu, floats(9, 11));
  x.requiresGrad = true;
  tidy(() => x.to("bf16").to("f32").mul(2).sum().backward());
  assertBitEqual(await (x.grad as Tensor).data(), new Float32Array(9).fill(2));
  const whole = noGrad(() => x.to("i32"));
  assert.not.ok(x.to("i32").needsGradient, "integers have none");
  assert.throws(() => {
    whole.requiresGrad = true;
  }, /a tensor of i32 has no gradient/);
  for (const made of [x, whole]) made.dispose();
});

types("refusals name both types", () => {
  const x = tensor(gpu, [1, 2]);
  const ids = tensor(gpu, Int32Array.of(0, 1));
  assert.throws(
    () => x.add(ids),
    (error: Error) =>
      error instanceof ShapeError && /add: f32 and i32 do not mix; cast one/.test(error.message),
  );
  assert.throws(
    () => gelu(ids),
    (error: Error) =>
      error instanceof ShapeError && /input 0 is i32, expected f32; cast it/.test(error.message),
  );
  assert.throws(() => ids.write(Float32Array.of(1, 2)), /write: 2 f32 values into i32 \[2\]/);
  for (const made of [x, ids]) made.dispose();
});

/** NaN keeps its place and loses its payload, which drivers need not keep. */
function withoutNaN(values: ArrayLike<number>): Float32Array {
  return Float32Array.from(values, (value) => (Number.isNaN(value) ? 123.456 : value));
}

types.run();
