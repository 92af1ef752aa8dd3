// What a row of the op table cannot say of products and attention: which kernels run and how many, what is kept, sums
// and offsets of gemm, caches.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DType, Gpu, type GpuArray, type Shape } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { noGrad, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { GpuError, ShapeError } from "../src/gpu/index.ts";
import { gemm, type Product } from "../src/ops/gemm.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels, liveBytes } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";
import { leavesTilesToFull, skipped } from "./skip.ts";

const test = suite("products");
const variants = Object.entries(await bothKernels());

function made(gpu: Gpu, shape: readonly number[], seed: number, requiresGrad = false): Tensor {
  const result = tensor(gpu, Float32Array.from(normal(shape, seed).data), shape);
  result.requiresGrad = requiresGrad;
  return result;
}

/** Dispatches that `body` records. */
function dispatches({ device }: Gpu, body: () => unknown): number {
  const before = device.statistics().dispatches;
  tidy(() => {
    body();
  });
  return device.statistics().dispatches - before;
}

async function values(gpu: Gpu, array: GpuArray): Promise<ArrayLike<number>> {
  const data = await gpu.read(array);
  array.release();
  return data as Float32Array;
}

/** Two terms of [K, M]ᵀ [K, N] each, between other numbers, added to what is there. */
async function checkSums(gpu: Gpu, [M, N, K]: readonly [number, number, number]): Promise<void> {
  const [a, b, c] = [normal([3, K, M], 1), normal([2, 2, K, N], 2), normal([2, M, N], 3)];
  const arrays = [a, b, c].map(({ data, shape }) => gpu.from(Float32Array.from(data), shape));
  const [left, right, result] = arrays as [GpuArray, GpuArray, GpuArray];
  const product: Product = {
    a: left,
    b: right,
    c: result,
    M,
    N,
    K,
    transposeA: true,
    accumulate: true,
    sums: 2,
    scale: 0.5,
    layoutA: { start: K * M, sum: K * M },
    layoutB: { start: 2 * K * N, sum: K * N },
    layoutC: { start: M * N },
  };
  gpu.scope(
    () => gemm(gpu, product),
    () => [],
  );
  const term = (n: number) =>
    R.matmul(
      R.slice(a, [[n + 1, n + 2]]),
      R.slice(b, [
        [1, 2],
        [n, n + 1],
      ]),
      { ta: true },
    ).data;
  const [first, second] = [term(0), term(1)];
  const expected = c.data.map((v, i) =>
    i < M * N ? v : v + 0.5 * ((first[i - M * N] ?? Number.NaN) + (second[i - M * N] ?? Number.NaN)),
  );
  const actual = await values(gpu, result);
  left.release();
  right.release();
  assertWithin(actual, expected, () => 1e-5, "sums");
  assert.equal([...Array.from(actual).slice(0, M * N)], [...Float32Array.from(c.data.slice(0, M * N))]);
}

/** a [2, 4, M, K] of four heads, b [2, 2, N, K] of two: neighbours share one. */
async function checkShared(gpu: Gpu, [M, N, K]: readonly [number, number, number]): Promise<void> {
  const [a, b] = [normal([2, 4, M, K], 4), normal([2, 2, N, K], 5)];
  const [left, right] = [a, b].map(({ data, shape }) => gpu.from(Float32Array.from(data), shape)) as [
    GpuArray,
    GpuArray,
  ];
  const c = gpu.empty([2, 4, M, N]);
  gemm(gpu, {
    a: left,
    b: right,
    c,
    M,
    N,
    K,
    transposeB: true,
    batch: 8,
    inner: 4,
    share: 2,
    layoutA: { stride: 4 * M * K, inner: M * K },
    layoutB: { stride: 2 * N * K, inner: N * K },
    layoutC: { stride: 4 * M * N, inner: M * N },
  });
  const pairs = R.reshape(a, [2, 2, 2, M, K]);
  const expected = R.matmul(pairs, R.reshape(b, [2, 2, 1, N, K]), { tb: true });
  const actual = await values(gpu, c);
  left.release();
  right.release();
  assertWithin(actual, expected.data, () => 1e-5, "shared");
}

for (const [name, gpu] of variants) {
  for (const sizes of [
    [8, 12, 4] as const,
    [20, 36, 17] as const,
    [5, 7, 3] as const,
    [35, 68, 5] as const,
  ]) {
    test(`sums of products add to what is there, ${sizes.join(" x ")}, kernels for ${name}`, () =>
      checkSums(gpu, sizes));
    test(`neighbours share an operand, ${sizes.join(" x ")}, kernels for ${name}`, () =>
      checkShared(gpu, sizes));
  }
  test(`one row and neighbours that share, kernels for ${name}`, () => checkShared(gpu, [1, 7, 5]));

  const compiles = `shapes compile nothing, kernels for ${name}`;
  const isLong = !gpu.isSoftware && leavesTilesToFull(gpu);
  const either = (body: () => void): void =>
    isLong ? skipped(test, compiles, "tiles: npm run test:full -- products") : test(compiles, body);
  either(() => {
    const before = gpu.device.statistics().kernels;
    for (let n = 2; n < 40; n++) {
      tidy(() => {
        const [a, b] = [made(gpu, [n, n + 3], n), made(gpu, [n + 3, 2 * n], n)];
        ad.matmul(a, b);
        ad.matmul(made(gpu, [n + 3, n], n), b, { transposeA: true });
        ad.matmul(a, made(gpu, [2 * n, n + 3], n), { transposeB: true, activation: n % 2 ? "gelu" : "relu" });
      });
    }
    // nn, tn and nt (activated) with loads and stores of vec4 or of single floats; for GPUs one of tall tiles, of
    // wide and of square ones, and each activated.
    const most = (gpu.isSoftware ? 3 : 6) * 4;
    assert.ok(gpu.device.statistics().kernels - before <= most, "kernels by shape");
  });

  test(`an activation costs no dispatch forward and one backward, kernels for ${name}`, () => {
    const x = made(gpu, [9, 8], 1, true);
    const [weight, bias] = [made(gpu, [12, 8], 2, true), made(gpu, [12], 3, true)];
    const dy = made(gpu, [9, 12], 4);
    const forward = (activation?: "gelu" | "relu") =>
      dispatches(gpu, () => ad.linear(x, weight, bias, { activation }));
    assert.equal([forward(), forward("gelu"), forward("relu")], [1, 1, 1]);
    const both = (activation?: "gelu" | "relu") =>
      dispatches(gpu, () => ad.linear(x, weight, bias, { activation }).backward(dy));
    x.grad = weight.grad = bias.grad = null;
    const plain = both();
    x.grad = weight.grad = bias.grad = null;
    assert.is(both("gelu"), plain + 1);
    for (const t of [x, weight, bias, dy]) t.dispose();
  });

  test(`what an activation is applied to is kept only where its slope needs it, kernels for ${name}`, () => {
    const x = made(gpu, [16, 8], 1, true);
    const weight = made(gpu, [32, 8], 2);
    const kept = (activation: "gelu" | "relu" | undefined) => {
      const before = liveBytes(gpu);
      const y = ad.linear(x, weight, null, { activation });
      const bytes = liveBytes(gpu) - before;
      y.dispose();
      return bytes / (16 * 32 * 4);
    };
    assert.equal([kept(undefined), kept("relu"), kept("gelu")], [1, 1, 2]);
    x.requiresGrad = false;
    assert.is(kept("gelu"), 1);
    x.dispose();
    weight.dispose();
  });

  test(`a token attends in one dispatch, kernels for ${name}`, () => {
    const [q, k] = [made(gpu, [2, 1, 8], 1), made(gpu, [2, 20, 8], 2)];
    const one = (keyLength: number) =>
      dispatches(gpu, () => ad.attention(q, k, k, null, { heads: 2, keyLength, causal: true }));
    assert.is(one(3), 1);
    const { kernels } = gpu.device.statistics();
    assert.is(one(17), 1);
    assert.is(gpu.device.statistics().kernels, kernels, "kernels by length");
    q.dispose();
    k.dispose();
  });

  test(`tokens one by one through a cache are causal attention, kernels for ${name}`, async () => {
    const [B, T, C] = [2, 7, 8];
    const x = made(gpu, [B, T, C], 7);
    const options = { heads: 4, kvHeads: 2, causal: true } as const;
    const half = (t: Tensor) => t.slice(2, 0, C / 2).contiguous();
    const whole = ad.attention(x, half(x), half(x), null, options);
    const cache = made(gpu, [B, 11, C / 2], 8);
    const rows = noGrad(() =>
      Array.from({ length: T }, (_, i) => {
        const row = x.slice(1, i, i + 1);
        ad.cacheWrite(cache, half(row), i);
        return ad.attention(row, cache, cache, null, { ...options, keyLength: i + 1 });
      }),
    );
    const expected = await whole.data();
    const joined = await ad.concat(rows, 1).data();
    assertWithin(joined as Float32Array, expected as Float32Array, () => 2e-6, "tokens");
    const [first = 0] = normal([B, 11, C / 2], 8).data.slice((T * C) / 2);
    assert.is((await cache.data())[(T * C) / 2], Math.fround(first), "rows beyond keep their bytes");
    for (const t of [x, whole, cache, ...rows]) t.dispose();
  });
}

test("a mask of bools is one of i32", async () => {
  const gpu = variants[0]?.[1] as Gpu;
  const x = made(gpu, [2, 3, 4], 1);
  const keep = tensor(gpu, Int32Array.of(1, 0, 1, 1, 1, 0), [2, 3]);
  const results = [keep, keep.to("bool"), null].map((mask) => ad.attention(x, x, x, mask, { heads: 2 }));
  const [whole, bools, none] = await Promise.all(results.map((y) => y.data()));
  assert.equal(bools, whole);
  assert.not.equal(none, whole);
  for (const t of [x, keep, ...results]) t.dispose();
});

test("weights beyond the limit are made in blocks, and not kept", () => {
  const gpu = variants.find(([name]) => name === "software")?.[1] as Gpu;
  const [B, T, heads, C] = [4, 64, 2, 16];
  const all = B * heads * T * T * 4;
  const shape = [B, T, C];
  const inputs = [1, 2, 3].map((seed) => made(gpu, shape, seed, true)) as [Tensor, Tensor, Tensor];
  const kept = (weightBytes?: number) => {
    const before = liveBytes(gpu);
    const y = ad.attention(...inputs, null, { heads, weightBytes });
    const bytes = liveBytes(gpu) - before - B * T * C * 4;
    y.dispose();
    return bytes;
  };
  assert.is(kept(), all);
  assert.is(kept(all / 4), 0);
  for (const t of inputs) t.dispose();
});

/** Remembers the largest array that was asked for. */
class Watching extends Gpu {
  largest = 0;

  override empty(shape: Shape, dtype?: DType): GpuArray {
    const array = super.empty(shape, dtype);
    this.largest = Math.max(this.largest, array.bytes);
    return array;
  }
}

test("no array is larger than the limit of weights, forward and backward", () => {
  const [own] = variants.map(([, gpu]) => gpu) as [Gpu];
  const gpu = new Watching(own.device, { kernels: "software" });
  const [B, T, heads, C] = [2, 64, 2, 8];
  const inputs = [1, 2, 3].map((seed) => made(gpu, [B, T, C], seed, true)) as [Tensor, Tensor, Tensor];
  const dy = made(gpu, [B, T, C], 4);
  const largest = (weightBytes: number) => {
    gpu.largest = 0;
    const y = ad.attention(...inputs, null, { heads, weightBytes, causal: true });
    y.backward(dy);
    y.dispose();
    return gpu.largest;
  };
  const perHead = T * T * 4;
  assert.is(largest(2 * B * heads * perHead), B * heads * perHead);
  assert.is(largest(3 * perHead), 2 * perHead);
  assert.is(largest(perHead), perHead);
  assert.is(largest(perHead / 3), 21 * T * 4);
  for (const t of [...inputs, dy]) t.dispose();
});

test("cacheWrite refuses what does not fit, and a tape", () => {
  const gpu = variants[0]?.[1] as Gpu;
  const [cache, x] = [made(gpu, [2, 5, 4], 1), made(gpu, [2, 2, 4], 2)];
  assert.throws(
    () => ad.cacheWrite(cache, x, 0),
    (e: Error) => e instanceof GpuError && /call it in noGrad/.test(e.message),
  );
  noGrad(() => {
    const refused = (message: RegExp) => (e: Error) => e instanceof ShapeError && message.test(e.message);
    assert.throws(
      () => ad.cacheWrite(cache, x, 4),
      refused(/2 rows from 4 on do not fit the 5 rows of the cache \[2, 5, 4\]/),
    );
    assert.throws(() => ad.cacheWrite(cache, x, -1), refused(/2 rows from -1 on/));
    const other = made(gpu, [2, 2, 3], 3);
    assert.throws(() => ad.cacheWrite(cache, other, 0), refused(/cache \[2, 5, 4\], x \[2, 2, 3\]/));
    other.dispose();
  });
  cache.dispose();
  x.dispose();
});

test("many tiles are large ones on a GPU, any sizes and transpositions", async () => {
  const { hardware } = await bothKernels();
  const [B, M, N, K] = [64, 130, 67, 21];
  for (const [ta, tb] of [
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ] as const) {
    const [a, b] = [normal(ta ? [B, K, M] : [B, M, K], 1), normal(tb ? [N, K] : [K, N], 2)];
    const [x, y] = [a, b].map(({ data, shape }) => tensor(hardware, Float32Array.from(data), shape)) as [
      Tensor,
      Tensor,
    ];
    const z = noGrad(() => ad.matmul(x, y, { transposeA: ta, transposeB: tb }));
    // 64 products of 2 x 1 large tiles
    assertWithin(await z.data(), R.matmul(a, b, { ta, tb }).data, () => 1e-4, `${ta}, ${tb}`);
    for (const tensor of [x, y, z]) tensor.dispose();
  }
});

// What lies around the matrices of subgroups: staging, edges, both orders of b, epilogues, batches. Three kernels: the
// software drivers take seconds to compile each.
for (const [M, N, K, transposeB] of [
  [64, 96, 32, true],
  [70, 34, 45, false],
] as const)
  test(`products of matrices, ${M} x ${K} times ${K} x ${N}, emulated`, async () => {
    const { hardware } = await bothKernels();
    const matrices = { rows: 16, columns: 8, step: 16, subgroup: 32, depth: 16, isEmulated: true } as const;
    const device = new Gpu(hardware.device, { kernels: "hardware", matrices });
    // Both operands are halves, so that the product of each two numbers is exact.
    const halves = ({ data, shape }: { data: ArrayLike<number>; shape: Shape }): Tensor =>
      tidy(() => tensor(device, Float32Array.from(data), shape).to("f16"));
    const exact = async (half: Tensor) =>
      tidy(() => half.to("f32"))
        .data()
        .then((data) => ({ shape: half.shape, data: Float64Array.from(data) }));
    const a = tidy(() => halves(normal([2, M, K], 1)).to("f32"));
    const b = halves(normal(transposeB ? [N, K] : [K, N], 2));
    const bias = tensor(
      device,
      Float32Array.from({ length: N }, (_, i) => i / N),
    );
    const product = R.matmul(await exact(a), await exact(b), { tb: transposeB }).data;
    const epilogue = transposeB ? {} : ({ bias, activation: "relu" } as const);
    const c = noGrad(() => ad.matmul(a, b, { transposeB, ...epilogue }));
    const expected = transposeB
      ? product
      : Float64Array.from(product, (v, i) => Math.max(0, v + (i % N) / N));
    assertWithin(await c.data(), expected, () => 2e-5, "product");
    for (const each of [a, b, bias, c]) each.dispose();
  });

// Software adapters give large products a kernel of more rows.
for (const [N, K, type, transposeB] of [
  [1028, 900, "f32", false],
  [1027, 901, "bf16", true],
] as const)
  test(`a large product, ${N} columns of ${K} ${type}${transposeB ? ", transposed" : ""}: the bits of its parts`, async () => {
    const [gpu] = variants.map(([, variant]) => variant) as [Gpu];
    const M = 77; // the last workgroup has rows to spare
    assert.ok(M * N * K > 2 ** 26 && 39 * N * K < 2 ** 26, "one is large, the other is not");
    const a = made(gpu, [M, K], 1);
    const b = made(gpu, transposeB ? [N, K] : [K, N], 2);
    const [whole, parts] = noGrad(() =>
      tidy(() => {
        const stored = b.to(type);
        const times = (x: Tensor): Tensor => ad.matmul(x, stored, { transposeB });
        return [times(a), ad.concat([times(a.slice(0, 0, 38)), times(a.slice(0, 38, M))], 0)];
      }),
    ) as [Tensor, Tensor];
    assertBitEqual((await whole.data()) as Float32Array, (await parts.data()) as Float32Array);
    for (const x of [a, b, whole, parts]) x.dispose();
  });

test.run();
