// The tiles of attention on GPUs, and their kernel of few queries, beside the products of software adapters, which the op
// table holds against float64: sizes for which central differences would take too long.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import { attention, Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { draw, dropped } from "./ops-table/drawing.ts";
import { leavesTilesToFull, skipped } from "./skip.ts";

const { software, hardware } = await bothKernels();
const test = suite("attention in tiles");

interface Setting {
  readonly B?: number;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly keyLength?: number;
  readonly causal?: boolean;
  readonly p?: number;
  readonly bias?: readonly number[];
  /** Keys of the first entry that are padding. */
  readonly padded?: number;
  /** Of the first entry too: its last keys. */
  readonly trailing?: number;
  /** Of every element of the bias, instead of random numbers. */
  readonly biased?: number;
}

const NAMES = ["y", "dq", "dk", "dv", "dbias"];

/** y and the gradients of all inputs that have one. */
async function attend(gpu: Gpu, setting: Setting): Promise<Float32Array[]> {
  const {
    B = 2,
    T,
    S,
    D,
    heads = 2,
    kvHeads = heads,
    keyLength = S,
    causal,
    p = 0,
    padded = 0,
    trailing = 0,
  } = setting;
  const random = (name: string, shape: readonly number[]): Tensor => {
    const size = shape.reduce((product, n) => product * n, 1);
    const data = Stream.seed(5).fold(name).normal(size);
    const made = tensor(gpu, name === "bias" && setting.biased ? data.fill(setting.biased) : data, shape);
    made.requiresGrad = true;
    return made;
  };
  const [q, k, v] = [
    random("q", [B, T, heads * D]),
    random("k", [B, S, kvHeads * D]),
    random("v", [B, S, kvHeads * D]),
  ];
  const bias = setting.bias ? random("bias", setting.bias) : null;
  const isPadding = (i: number) => i < padded || (i < keyLength && i >= keyLength - trailing);
  const see = Int32Array.from({ length: B * keyLength }, (_, i) => (isPadding(i) ? 0 : 1));
  const keep = padded + trailing > 0 ? tensor(gpu, see, [B, keyLength]) : null;
  const dropout = p > 0 ? { p, draw: draw(gpu, dropped) } : undefined;
  const dy = random("dy", [B, T, heads * D]);
  const y = attention(q, k, v, keep, { heads, kvHeads, keyLength, causal, bias, dropout });
  y.backward(dy);
  const results = [y, ...[q, k, v, bias].flatMap((x) => (x?.grad ? [x.grad] : []))];
  const values = await Promise.all(results.map(async (x) => Float32Array.from(await x.data())));
  for (const x of [q, k, v, bias, keep, dy, y]) x?.dispose();
  return values;
}

const settings: Readonly<Record<string, Setting>> = {
  "dropout, a cache, shared heads": {
    T: 70,
    S: 140,
    D: 36,
    heads: 4,
    kvHeads: 2,
    keyLength: 77,
    causal: true,
    p: 0.3,
    bias: [4, 1, 77],
    padded: 40,
  },
  "dropout, every key of an entry masked": { B: 3, T: 9, S: 66, D: 8, p: 0.2, padded: 66 },
  "more queries than keys": { T: 130, S: 33, D: 8, bias: [33] },
  "a bias of one number, summed in parts": { B: 5, T: 65, S: 40, D: 8, causal: false, bias: [1] },
  "a bias of one column of queries, in parts": {
    B: 4,
    T: 66,
    S: 70,
    D: 8,
    causal: true,
    bias: [66, 1],
    p: 0.3,
    keyLength: 69,
  },
  "a head of 130 channels, in two slices": { B: 1, T: 10, S: 35, D: 130, heads: 1, causal: true },
  "trailing tiles of padding": { T: 70, S: 135, D: 8, p: 0.2, trailing: 81, heads: 4, kvHeads: 2 },
  "leading and trailing tiles of padding, causal": {
    T: 130,
    S: 170,
    D: 8,
    keyLength: 163,
    causal: true,
    padded: 66, // seen by 33 queries that see nothing else
    trailing: 70,
  },
  "keys biased so low that padding outweighs them": {
    T: 10,
    S: 100,
    D: 8,
    bias: [100],
    biased: -2e9,
    trailing: 66,
  },
  // Up to 8 queries: keys come 120, 128 and 126 at a time.
  "few queries of a cache, with everything": {
    T: 3,
    S: 300,
    D: 80,
    heads: 4,
    kvHeads: 2,
    keyLength: 290,
    causal: true,
    p: 0.3,
    bias: [4, 1, 290],
    padded: 140,
  },
  "few queries, a head of 256 channels": { B: 1, T: 1, S: 129, D: 256, heads: 1, causal: true },
  "few queries, an odd head, every key of an entry masked": { T: 8, S: 131, D: 67, padded: 131 },
};

const isLong = leavesTilesToFull(hardware);
if (isLong)
  skipped(test, "all settings", "compiled for a second each here: npm run test:full -- attention-tiles");

for (const [name, setting] of Object.entries(isLong ? {} : settings)) {
  test(name, async () => {
    const expected = await attend(software, setting);
    const first = await attend(hardware, setting);
    const second = await attend(hardware, setting);
    assert.is(first.length, expected.length);
    for (const [i, values] of expected.entries()) {
      // Sums of up to 1,000 terms, and those of a bias of all scores.
      const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 1);
      assertWithin(first[i] as Float32Array, values, () => 1e-5 * most, NAMES[i] as string);
      assertBitEqual(second[i] as Float32Array, first[i] as Float32Array, `${NAMES[i]}, second run`);
    }
  });
}

test("tiles of padding are left out: what lies there does not matter", async () => {
  const [T, S, C] = [40, 160, 8]; // keys 0 to 31 and 64 to 159 are whole tiles of padding
  const isPadding = (i: number) => i < 32 || i >= 64;
  const keep = tensor(
    hardware,
    Int32Array.from({ length: S }, (_, i) => (isPadding(i) ? 0 : 1)),
    [1, S],
  );
  const spoilt = (name: string, length: number, isNaNAt: (i: number) => boolean): Tensor => {
    const data = Stream.seed(5)
      .fold(name)
      .normal(length * C);
    const made = tensor(
      hardware,
      data.map((x, i) => (isNaNAt(Math.floor(i / C)) ? Number.NaN : x)),
      [1, length, C],
    );
    made.requiresGrad = true;
    return made;
  };
  const q = spoilt("q", T, () => false);
  const [k, v] = [spoilt("k", S, isPadding), spoilt("v", S, isPadding)];
  const dy = spoilt("dy", T, (i) => i === 7);
  const y = attention(q, k, v, keep, { heads: 2 });
  y.backward(dy);
  const finite = async (x: Tensor | null) => Array.from((await x?.data()) ?? [], Number.isFinite);
  assert.ok((await finite(y)).every(Boolean), "y");
  assert.equal(
    await finite(q.grad),
    Array.from({ length: T * C }, (_, i) => Math.floor(i / C) !== 7),
    "dq",
  );
  for (const [name, x] of Object.entries({ dk: k, dv: v }))
    assert.ok((await finite(x.grad)).slice(64 * C).every(Boolean), name);
  for (const x of [q, k, v, dy, keep, y]) x.dispose();
});

test("head sizes up to a multiple of 32 have one kernel", async () => {
  const { device } = hardware;
  const small = { B: 1, T: 9, S: 9 };
  await attend(hardware, { ...small, D: 8 });
  const before = device.statistics().kernels;
  for (const D of [4, 12, 24, 32]) await attend(hardware, { ...small, D });
  assert.is(device.statistics().kernels, before);
});

test.run();
