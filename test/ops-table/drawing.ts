import type { Gpu, GpuArray } from "../../src/array/index.ts";
import type { Draw } from "../../src/ops/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { absolute, ulps } from "./bounds.ts";
import { type Attributes, floats, normal, type Row, row, type Value } from "./row.ts";

const clocks = new WeakMap<Gpu, GpuArray>();
const SEED = 77;
const STEP = 5;

/** The clock [seed, step] of a device, kept for all cases. */
export function draw(gpu: Gpu, rest: Omit<Draw, "clock">): Draw {
  const clock = clocks.get(gpu) ?? gpu.from(new Uint32Array([SEED, STEP]));
  clocks.set(gpu, clock);
  return { clock, ...rest };
}

/** 1 where word `pick(i)` of the counter of element i is at least p of all words. */
function kept(size: number, p: number, word: (i: number) => number): number[] {
  return Array.from({ length: size }, (_, i) => (word(i) >= p * 2 ** 32 ? 1 : 0));
}

export const dropped = { stream: 1234, examples: 2, firstExample: 3, firstPass: 1 };

const drawn = new Map<string, readonly number[]>();

/** Words of philox at (element, example, pass, step); kept, since central differences ask for them again. */
function words(element: number, r: number): readonly number[] {
  const key = `${element},${r}`;
  const known = drawn.get(key) ?? wordsAt(element, r);
  drawn.set(key, known);
  return known;
}

function wordsAt(element: number, r: number): readonly number[] {
  const { stream, examples, firstExample, firstPass } = dropped;
  const counter = [
    element,
    firstExample + (r % examples),
    firstPass + Math.floor(r / examples),
    STEP,
  ] as const;
  return R.philox4x32(counter, [SEED, stream]);
}

function dropoutMask(x: R.RefTensor, p: number): R.RefTensor {
  const columns = x.data.length / (x.shape[0] ?? 1);
  const mask = kept(x.data.length, p, (i) => {
    const column = i % columns;
    return words(Math.floor(column / 4), Math.floor(i / columns))[column % 4] ?? 0;
  });
  return R.ref(x.shape, mask);
}

const dropout = row(ops.dropout, {
  reference: (inputs, { p }) =>
    R.dropout(floats(inputs, 0), dropoutMask(floats(inputs, 0), Number(p)), { p: Number(p) }),
  cases: [
    {
      name: "[4, 5, 7]",
      inputs: [normal([4, 5, 7], 1)],
      attrs: (gpu) => ({ p: 0.3, draw: draw(gpu, dropped) }),
    },
    { name: "[2, 64]", inputs: [normal([2, 64], 2)], attrs: (gpu) => ({ p: 0.5, draw: draw(gpu, dropped) }) },
    { name: "p = 0", inputs: [normal([3, 5], 3)], attrs: (gpu) => ({ p: 0, draw: draw(gpu, dropped) }) },
    { name: "no rows", inputs: [normal([0, 5], 4)], attrs: (gpu) => ({ p: 0.1, draw: draw(gpu, dropped) }) },
  ],
  forward: ulps(2),
  backward: ulps(8),
  refuses: [
    { shapes: [[3, 4]], attrs: { p: 1 }, message: /p is 1, expected 0 <= p < 1/ },
    { shapes: [[]], attrs: { p: 0.5 }, message: /\[\] has no rows/ },
  ],
});

/** Scores of a query whose keys are all masked do not depend on it: they are equal. */
function unmaskedQueries(q: R.RefTensor, keep: Value): R.RefTensor {
  if (!keep) return q;
  const see = R.sum(R.ref(keep.shape, keep.data), { dims: [1] });
  return R.mul(
    q,
    R.reshape(
      R.map(see, (n) => (n > 0 ? 1 : 0)),
      [-1, 1, 1],
    ),
  );
}

function attentionReference(inputs: readonly Value[], attrs: Attributes): R.RefTensor {
  const [q, k, v] = [floats(inputs, 0), floats(inputs, 1), floats(inputs, 2)];
  const see = inputs[3] ?? null;
  const heads = Number(attrs.heads);
  const [B = 0, T = 0] = q.shape;
  const [, S = 0] = k.shape;
  const { p = 0 } = (attrs.dropout ?? {}) as { p?: number };
  const mask = kept(
    B * heads * T * S,
    p,
    (i) => words(i % (heads * T * S), Math.floor(i / (heads * T * S)))[0] ?? 0,
  );
  return R.attention(unmaskedQueries(q, see), k, v, {
    heads,
    mask: see && R.keyMask(R.ref(see.shape, see.data), -1e9),
    causal: attrs.causal === true,
    ...(attrs.scale === undefined ? {} : { scale: Number(attrs.scale) }),
    ...(p > 0 ? { keep: { mask: R.ref([B, heads, T, S], mask), p } } : {}),
  });
}

const qkv = (B: number, T: number, S: number, C: number, seed: number): Value[] => [
  normal([B, T, C], seed),
  normal([B, S, C], seed + 1),
  normal([B, S, C], seed + 2),
];
const keep = R.indices([2, 5], [1, 1, 0, 1, 0, 0, 1, 1, 1, 0]);
const oneMasked = R.indices([2, 5], [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]);

const attention = row(ops.attention, {
  reference: attentionReference,
  cases: [
    { name: "two heads of 4", inputs: [...qkv(2, 5, 5, 8, 1), null], attrs: { heads: 2 } },
    { name: "two heads of 3", inputs: [...qkv(2, 5, 5, 6, 4), keep], attrs: { heads: 2 } },
    { name: "padding", inputs: [...qkv(2, 5, 5, 8, 7), keep], attrs: { heads: 2 } },
    { name: "causal", inputs: [...qkv(1, 7, 7, 4, 10), null], attrs: { heads: 1, causal: true } },
    {
      name: "causal, fewer queries than keys",
      inputs: [...qkv(2, 3, 7, 4, 13), null],
      attrs: { heads: 1, causal: true },
    },
    {
      name: "more queries than keys",
      inputs: [...qkv(1, 6, 3, 4, 16), null],
      attrs: { heads: 1, scale: 0.3 },
    },
    { name: "every key masked", inputs: [...qkv(2, 5, 5, 8, 19), oneMasked], attrs: { heads: 2 } },
    {
      name: "dropout",
      inputs: [...qkv(3, 5, 5, 8, 22), null],
      attrs: (gpu) => ({ heads: 2, dropout: { p: 0.4, draw: draw(gpu, dropped) } }),
    },
    {
      name: "large scores",
      inputs: [...qkv(1, 4, 6, 4, 25), null].map((x, i) =>
        x && i === 0 ? R.map(floats([x], 0), (v) => v * 256) : x,
      ),
      attrs: { heads: 1 },
      // exp of a score of 500 with an error of 500 · 2⁻²⁴ · a few.
      forward: absolute(2e-4),
      backward: absolute(5e-2),
    },
  ],
  // Scores of 1e60.
  without: ["1e30"],
  constants: [2],
  // Of several head sizes.
  pipelines: 24,
  make(shape, seed) {
    const [B = 0, T = 0, C = 0] = shape;
    if (shape.length !== 3) return null;
    const see = Array.from({ length: B * (T + 1) }, (_, i) => ((i * 7 + seed) % 3 === 0 ? 0 : 1));
    return {
      inputs: [...qkv(B, T, T + 1, C, seed), R.indices([B, T + 1], see)],
      attrs: { heads: C % 2 === 0 ? 2 : 1, causal: seed % 2 === 0 },
    };
  },
  // Softmax 3e-7 for each weight; values and gradients of up to 4 are multiplied with it.
  forward: absolute(2e-6),
  backward: absolute(8e-6),
  refuses: [
    {
      shapes: [[2, 5, 8], [2, 5, 8], [2, 4, 8], null],
      attrs: { heads: 2 },
      message: /k \[2, 5, 8\], v \[2, 4, 8\]/,
    },
    {
      shapes: [[2, 5, 8], [2, 5, 6], [2, 5, 6], null],
      attrs: { heads: 2 },
      message: /q \[2, 5, 8\], k \[2, 5, 6\]/,
    },
    {
      shapes: [[2, 5, 0], [2, 5, 0], [2, 5, 0], null],
      attrs: { heads: 2 },
      message: /0 channels do not split into 2 heads/,
    },
    {
      shapes: [[2, 5, 8], [2, 5, 8], [2, 5, 8], null],
      attrs: { heads: 3 },
      message: /8 channels do not split into 3 heads/,
    },
    {
      shapes: [
        [2, 5, 8],
        [2, 5, 8],
        [2, 5, 8],
        [2, 4],
      ],
      attrs: { heads: 2 },
      message: /mask \[2, 4\], expected \[2, 5\]/,
    },
    {
      shapes: [[2, 5, 8], [2, 4, 8], [2, 4, 8], null],
      attrs: { heads: 2, causal: true },
      message: /5 queries are more than the 4 keys/,
    },
  ],
  variants: true,
  fused: true,
});

/** Rows of ops that may draw random numbers. */
export const drawing: readonly Row[] = [dropout, attention];
