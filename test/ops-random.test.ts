// Random numbers on the GPU: the words of Philox, and dropout, which is found by logical counters.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { TypedArray } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { drawOf, philox, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";
import { philox4x32 } from "./reference/index.ts";

const gpu = await openTestGpu();
const test = suite("randomness");

type Four = [number, number, number, number];

/** Salmon et al. 2011, from their own list of known answers. */
const known: readonly { counter: Four; key: [number, number]; words: Four }[] = [
  { counter: [0, 0, 0, 0], key: [0, 0], words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
];

async function wordsOfGpu(
  counters: readonly Four[],
  [key0, key1]: readonly [number, number],
): Promise<TypedArray> {
  const n = counters.length;
  const input = gpu.from(new Uint32Array(counters.flat()));
  const words = gpu.empty([4 * n], "u32");
  const groups = [Math.ceil(n / 64), 1, 1] as const;
  gpu.run(
    { shader: "../test/shaders/philox", entry: "main" },
    { counters: input, words },
    { n, key0, key1 },
    groups,
  );
  const result = await gpu.read(words);
  input.release();
  words.release();
  return result;
}

test("Philox gives its known answers, on the GPU and in TypeScript", async () => {
  for (const { counter, key, words } of known) {
    assert.equal(philox(counter, key), words);
    assert.equal([...(await wordsOfGpu([counter], key))], words);
  }
});

test("Philox on the GPU, in TypeScript and in the reference agree on any counter", async () => {
  const odd = (i: number, j: number) =>
    Math.imul(i + 1, [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f][j] ?? 1) >>> 0;
  const counters = Array.from({ length: 200 }, (_, i): Four => [odd(i, 0), odd(i, 1), odd(i, 2), odd(i, 3)]);
  const key = [0xdeadbeef, 0x12345678] as const;
  const words = await wordsOfGpu(counters, key);
  for (const [i, counter] of counters.entries()) {
    const expected = [...philox4x32(counter, key)];
    assert.equal(philox(counter, key), expected);
    assert.equal([...words.subarray(4 * i, 4 * i + 4)], expected);
  }
});

test("streams of different names and steps of a stream differ; equal ones are equal", () => {
  const root = Stream.seed(3);
  assert.equal(root.fold("a").fold(1).words(5), root.fold("a").fold(1).words(5));
  const others = [
    root,
    root.fold("a"),
    root.fold("b"),
    root.fold("a").fold(0),
    root.fold("a").fold(1),
    root.fold(0),
  ];
  const names = others.map((stream) => stream.words(5).join());
  assert.is(new Set(names).size, others.length);
  assert.not.equal(Stream.seed(4).words(5), root.words(5));
});

test("uniform and normal numbers have their mean and deviation", () => {
  const n = 20_000;
  const moments = (values: Float32Array) => {
    const mean = values.reduce((sum, v) => sum + v, 0) / n;
    return { mean, std: Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / n) };
  };
  const flat = moments(Stream.seed(1).uniform(n, -1, 3));
  assertClose([flat.mean, flat.std], [1, 4 / Math.sqrt(12)], { atol: 0.03 });
  const bell = moments(Stream.seed(2).normal(n, 5, 2));
  assertClose([bell.mean, bell.std], [5, 2], { atol: 0.05 });
});

interface Pass {
  readonly rows: number;
  readonly examples: number;
  readonly firstExample?: number;
  readonly firstPass?: number;
  readonly step?: number;
  readonly layer?: number;
}

const COLUMNS = 1001;

/** Dropout of ones: 0 where an element was dropped, 1 / (1 - p) where not; and the gradient of its sum. */
async function dropped(p: number, pass: Pass): Promise<{ y: TypedArray; dx: TypedArray }> {
  const { rows, step = 1, layer = 0, ...counts } = pass;
  const clock = tensor(gpu, new Uint32Array([9, step]));
  const draw = drawOf({ stream: Stream.seed(9), clock, ...counts }, "dropout", layer);
  const x = tensor(gpu, new Float32Array(rows * COLUMNS).fill(1), [rows, COLUMNS]);
  x.requiresGrad = true;
  const y = ad.dropout(x, { p, draw });
  tidy(() => y.sum().backward());
  const result = { y: await y.data(), dx: await dataOf(x.grad) };
  for (const tensor of [clock, x, y]) tensor.dispose();
  return result;
}

async function dataOf(tensor: Tensor | null): Promise<TypedArray> {
  if (!tensor) throw new Error("no gradient");
  return tensor.data();
}

for (const p of [0.1, 0.5]) {
  test(`dropout of ${p} drops its share, scales the rest, and the backward pass drops the same`, async () => {
    const rows = 64;
    const { y, dx } = await dropped(p, { rows, examples: rows });
    assertBitEqual(dx, y, "gradient of ones");
    const scale = Math.fround(1 / (1 - p));
    assert.ok(y.every((v) => v === 0 || v === scale));
    const n = rows * COLUMNS;
    const deviation = Math.sqrt((p * (1 - p)) / n);
    let drops = 0;
    for (const v of y) if (v === 0) drops++;
    const share = drops / n;
    assert.ok(Math.abs(share - p) < 4 * deviation, `${share} were dropped, expected ${p} ± ${4 * deviation}`);
    // Neighbours, and elements under one another, are independent.
    for (const distance of [1, 2, 4, COLUMNS]) {
      let both = 0;
      for (let i = distance; i < n; i++) if (y[i] === 0 && y[i - distance] === 0) both++;
      const expected = p * p;
      assert.ok(
        Math.abs(both / n - expected) < 0.01,
        `distance ${distance}: ${both / n}, expected ${expected}`,
      );
    }
  });
}

test("one batch of two passes draws what two passes draw, and so do micro-batches", async () => {
  const whole = (await dropped(0.3, { rows: 8, examples: 4 })).y;
  const half = 4 * COLUMNS;
  const first = (await dropped(0.3, { rows: 4, examples: 4 })).y;
  const second = (await dropped(0.3, { rows: 4, examples: 4, firstPass: 1 })).y;
  assertBitEqual(whole.slice(0, half), first, "pass 0");
  assertBitEqual(whole.slice(half), second, "pass 1");
  assert.not.equal(first, second);
  const later = (await dropped(0.3, { rows: 2, examples: 2, firstExample: 2 })).y;
  assertBitEqual(later, first.slice(half / 2), "examples 2 and 3");
});

test("another step, layer or seed drops other elements", async () => {
  const draws = [{}, { step: 2 }, { layer: 1 }, { firstPass: 1 }, { firstExample: 1 }];
  const seen = new Set<string>();
  for (const other of draws) seen.add((await dropped(0.5, { rows: 1, examples: 1, ...other })).y.join());
  assert.is(seen.size, draws.length);
});

test("the attention weights of two passes in one batch are dropped as in two passes", async () => {
  const shape = [4, 6, 8];
  const values = Stream.seed(5).normal(4 * 6 * 8);
  const run = async (rows: readonly [number, number], counts: { examples: number; firstPass?: number }) => {
    const clock = tensor(gpu, new Uint32Array([9, 1]));
    const x = tensor(gpu, values, shape).slice(0, ...rows);
    const draw = drawOf({ stream: Stream.seed(9), clock, ...counts }, "attention", 0);
    const y = ad.attention(x, x, x, null, { heads: 2, dropout: { p: 0.5, draw } });
    return y.data();
  };
  const whole = await run([0, 4], { examples: 2 });
  assertBitEqual(whole.slice(0, 96), await run([0, 2], { examples: 2 }), "pass 0");
  assertBitEqual(whole.slice(96), await run([2, 4], { examples: 2, firstPass: 1 }), "pass 1");
});

test.run();
