import type { Gpu } from "../../src/array/index.ts";
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { absolute } from "./bounds.ts";
import { draw, dropped, kept, words } from "./drawing.ts";
import { type Attributes, type Case, floats, given, normal, type Refusal, row, type Value } from "./row.ts";

function reference(inputs: readonly Value[], attrs: Attributes): R.RefTensor {
  const [q, k, v] = [floats(inputs, 0), floats(inputs, 1), floats(inputs, 2)];
  const [, , , keep, bias] = inputs;
  const { heads, kvHeads, keyLength, scale, causal } = attrs as unknown as ops.AttentionAttrs; // of the row's cases
  const [B = 0, T = 0] = q.shape;
  const S = keyLength ?? k.shape[1] ?? 0;
  const { p = 0 } = (attrs.dropout ?? {}) as { p?: number };
  return R.attention(q, k, v, {
    heads,
    kvHeads,
    keyLength,
    scale,
    causal,
    see:
      keep &&
      R.slice(R.ref(keep.shape, keep.data), [
        [0, B],
        [0, S],
      ]),
    mask: bias && R.reshape(floats(inputs, 4), [...Array(4 - bias.shape.length).fill(1), ...bias.shape]),
    ...(p > 0 ? { keep: { mask: maskOf([B, heads, T, S], p), p } } : {}),
  });
}

const masks = new Map<string, R.RefTensor>();

/** Which weights are kept; the reference is evaluated often. */
function maskOf(shape: readonly [B: number, heads: number, T: number, S: number], p: number): R.RefTensor {
  const key = `${shape} ${p}`;
  const [B, heads, T, S] = shape;
  const perEntry = heads * T * S;
  const word = (i: number) => words(i % perEntry, Math.floor(i / perEntry))[0] ?? 0;
  const mask = masks.get(key) ?? R.ref(shape, kept(B * perEntry, p, word));
  masks.set(key, mask);
  return mask;
}

interface Sizes {
  readonly B?: number;
  readonly T: number;
  readonly S: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly D?: number;
}

let seed = 0;
/** q [B, T, heads D] and k, v [B, S, kvHeads D], new numbers for each. */
function qkv({ B = 2, T, S, heads = 2, kvHeads = heads, D = 4 }: Sizes): Value[] {
  const next = (...shape: number[]) => normal(shape, ++seed);
  return [next(B, T, heads * D), next(B, S, kvHeads * D), next(B, S, kvHeads * D)];
}

/** Every third key is padding, and more at the end of the second entry. */
function padding(B: number, S: number): Value {
  const see = (i: number) => (i % 3 !== 1 && (i < S || i % S < S - 2) ? 1 : 0);
  return R.indices(
    [B, S],
    Array.from({ length: B * S }, (_, i) => see(i)),
  );
}

const two = { heads: 2 };
const biased = (shape: readonly number[]): Value => normal(shape, ++seed);
const dropout = { p: 0.4 };
/** Attributes with a draw of the device. */
const withDropout = (rest: object) => (gpu: Gpu) => ({
  ...rest,
  dropout: { ...dropout, draw: draw(gpu, dropped) },
});

const plain: readonly Case[] = [
  { name: "two heads of 4", inputs: [...qkv({ T: 5, S: 5 }), null, biased([2, 5, 5])], attrs: two },
  { name: "two heads of 3", inputs: [...qkv({ T: 5, S: 5, D: 3 }), padding(2, 5), null], attrs: two },
  { name: "11 queries, 13 keys", inputs: [...qkv({ T: 11, S: 13, D: 2 }), padding(2, 13), null], attrs: two },
  {
    name: "causal",
    inputs: [...qkv({ B: 1, T: 11, S: 11, D: 3 }), null, null],
    attrs: { ...two, causal: true },
  },
  {
    name: "causal, fewer queries than keys",
    inputs: [...qkv({ T: 3, S: 7 }), null, null],
    attrs: { ...two, causal: true },
  },
  {
    name: "more queries than keys",
    inputs: [...qkv({ T: 10, S: 3 }), null, null],
    attrs: { ...two, scale: 0.3 },
  },
  {
    name: "12 keys, a bias of each query, causal",
    inputs: [...qkv({ T: 9, S: 12, D: 2 }), padding(2, 12), biased([9, 1])],
    attrs: { ...two, causal: true },
  },
  { name: "one key", inputs: [...qkv({ T: 3, S: 1 }), null, null], attrs: two },
  { name: "no queries", inputs: [...qkv({ T: 0, S: 3 }), null, null], attrs: two },
  { name: "no entries", inputs: [...qkv({ B: 0, T: 3, S: 3 }), null, null], attrs: two },
  { name: "dropout", inputs: [...qkv({ B: 3, T: 9, S: 9, D: 2 }), null, null], attrs: withDropout(two) },
];

const SIZES = { T: 9, S: 10, D: 2 } as const;
const biases: readonly Case[] = (
  [[2, 2, 9, 10], [2, 9, 10], [9, 10], [2, 1, 1, 10], [2, 1, 1], [9, 1], []] as const
).map((shape) => ({
  name: `bias [${shape.join(", ")}]`,
  inputs: [...qkv(SIZES), shape.length === 4 ? padding(2, 10) : null, biased(shape)],
  attrs: { ...two, causal: shape.length === 2 },
  // Gradients of up to 360 scores meet in one.
  backward: absolute(4e-5),
}));

const grouped: readonly Case[] = [
  {
    name: "four heads share two",
    inputs: [...qkv({ T: 9, S: 9, heads: 4, kvHeads: 2, D: 2 }), padding(2, 9), biased([4, 1, 9])],
    attrs: { heads: 4, kvHeads: 2 },
  },
  {
    name: "three heads share one, odd",
    inputs: [...qkv({ T: 5, S: 7, heads: 3, kvHeads: 1, D: 5 }), null, null],
    attrs: { heads: 3, kvHeads: 1, causal: true },
  },
];

const caches: readonly Case[] = [
  {
    name: "five of eight rows are keys",
    inputs: [...qkv({ T: 10, S: 8 }), padding(2, 5), biased([5])],
    attrs: { ...two, keyLength: 5 },
  },
  {
    name: "five of eight rows, a mask of eight",
    inputs: [...qkv({ T: 3, S: 8, D: 3 }), padding(2, 8), null],
    attrs: { ...two, keyLength: 5, causal: true },
  },
  {
    name: "everything together",
    inputs: [...qkv({ T: 9, S: 14, heads: 4, kvHeads: 2, D: 2 }), padding(2, 12), biased([4, 9, 12])],
    attrs: withDropout({ heads: 4, kvHeads: 2, keyLength: 12, causal: true, scale: 0.7 }),
  },
];

/** More queries, keys and channels than a tile holds; what has no formula is in attention-tiles.test.ts. */
const tiles: readonly Case[] = [
  {
    name: "several tiles, causal",
    inputs: [...qkv({ T: 70, S: 75, D: 36 }), padding(2, 75), biased([2, 70, 75])],
    attrs: { ...two, causal: true },
    backward: absolute(4e-5),
  },
  {
    name: "a bias of the keys of several tiles",
    inputs: [...qkv({ B: 3, T: 66, S: 67 }), null, biased([3, 1, 1, 67])],
    attrs: two,
    backward: absolute(4e-5),
  },
  {
    name: "a bias of the queries of several tiles, the first entry without keys",
    inputs: [
      ...qkv({ B: 3, T: 66, S: 67 }),
      R.indices(
        [3, 67],
        Array.from({ length: 3 * 67 }, (_, i) => (i < 67 ? 0 : 1)),
      ),
      biased([2, 66, 1]),
    ],
    attrs: two,
    backward: absolute(4e-5),
  },
];

/** One token after a cache: without gradients, all adapters have one kernel for it. */
const tokens: readonly Case[] = [
  { name: "a token", inputs: [...qkv({ T: 1, S: 37 }), null, null], attrs: two },
  { name: "a token, odd", inputs: [...qkv({ T: 1, S: 37, D: 3 }), padding(2, 37), null], attrs: two },
  {
    name: "a token with everything",
    inputs: [...qkv({ T: 1, S: 40, heads: 4, kvHeads: 2, D: 8 }), padding(2, 33), biased([4, 1, 33])],
    attrs: withDropout({ heads: 4, kvHeads: 2, keyLength: 33, causal: true }),
  },
  {
    name: "two tokens, fewer keys than lanes",
    inputs: [...qkv({ T: 2, S: 3 }), null, null],
    attrs: { ...two, causal: true },
  },
  {
    name: "a token, every key masked",
    inputs: [...qkv({ T: 1, S: 5 }), R.indices([2, 5], Array(10).fill(0)), null],
    attrs: two,
  },
].map((c) => ({ ...c, name: `${c.name}, no gradients`, gradient: false }));

/** Weights of 4 x 5 take 80 bytes for each of 4 heads. */
const blocks: readonly Case[] = (
  [
    ["entries", 330],
    ["groups of heads", 170],
    ["a head of a group", 100],
    ["queries", 45],
    ["a single query", 1],
  ] as const
).map(([name, weightBytes]) => ({
  name: `blocks of ${name}`,
  inputs: [...qkv({ B: 3, T: 4, S: 5, heads: 4, kvHeads: 2, D: 2 }), padding(3, 5), biased([4, 4, 5])],
  attrs: withDropout({ heads: 4, kvHeads: 2, weightBytes, causal: true }),
  backward: absolute(2e-5),
}));

const oneMasked = R.indices([2, 5], [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]);
const LOWEST = -3.4028234663852886e38;
const extremes: readonly Case[] = [
  { name: "every key masked", inputs: [...qkv({ T: 5, S: 5 }), oneMasked, null], attrs: two },
  {
    name: "every key masked, 9 queries",
    inputs: [...qkv({ T: 9, S: 5 }), oneMasked, biased([9, 5])],
    attrs: two,
  },
  {
    name: "every key masked that causality shows",
    inputs: [...qkv({ T: 5, S: 5 }), R.indices([2, 5], [0, 0, 0, 1, 1, 0, 1, 1, 1, 0]), null],
    attrs: { ...two, causal: true },
  },
  {
    name: "a bias of the lowest f32",
    inputs: [...qkv({ T: 9, S: 4 }), null, R.map(R.ref([4]), () => LOWEST)],
    attrs: two,
    gradient: false,
  },
  {
    name: "a bias of -Inf on some keys",
    inputs: [
      ...qkv({ T: 3, S: 4 }),
      null,
      R.ref([4], [0, Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY]),
    ],
    attrs: two,
    gradient: false,
  },
  {
    name: "large scores",
    inputs: [...qkv({ T: 9, S: 6 }), null, null].map((x, i) =>
      x && i === 0 ? R.map(floats([x], 0), (v) => v * 256) : x,
    ),
    attrs: two,
    // exp of a score of 500 with an error of 500 · 2⁻²⁴ · a few.
    forward: absolute(2e-4),
    backward: absolute(5e-2),
  },
];

const refuses: readonly Refusal[] = [
  {
    shapes: [[2, 5, 8], [2, 5, 8], [2, 4, 8], null],
    attrs: two,
    message: /k \[2, 5, 8\], v \[2, 4, 8\]/,
  },
  {
    shapes: [[2, 5, 8], [2, 5, 6], [2, 5, 6], null],
    attrs: two,
    message: /q \[2, 5, 8\], k \[2, 5, 6\]/,
  },
  {
    shapes: [[2, 5, 8], [2, 5, 8], [2, 5, 8], null],
    attrs: { heads: 3 },
    message: /8 channels do not split into 3 heads/,
  },
  {
    shapes: [[2, 5, 8], [2, 5, 8], [2, 5, 8], null],
    attrs: { heads: 4, kvHeads: 3 },
    message: /4 heads of queries do not share 3 heads of keys/,
  },
  {
    shapes: [[2, 5, 8], [2, 5, 8], [2, 5, 8], null],
    attrs: { heads: 4, kvHeads: 2 },
    message: /k \[2, 5, 8\].*expected \[B, T, C\], \[B, S, C 2 \/ 4\] twice/,
  },
  {
    shapes: [
      [2, 5, 8],
      [2, 5, 8],
      [2, 5, 8],
      [2, 4],
    ],
    attrs: two,
    message: /mask \[2, 4\], expected \[2, 5\]/,
  },
  {
    shapes: [[2, 5, 8], [2, 5, 8], [2, 5, 8], null, [2, 5, 4]],
    attrs: two,
    message: /bias \[2, 5, 4\] does not broadcast to \[2, 2, 5, 5\]/,
  },
  {
    shapes: [[2, 5, 8], [2, 4, 8], [2, 4, 8], null],
    attrs: { ...two, causal: true },
    message: /5 queries are more than the 4 keys/,
  },
  {
    shapes: [[2, 5, 8], [2, 4, 8], [2, 4, 8], null],
    attrs: { ...two, keyLength: 5 },
    message: /5 keys of the 4 rows of k \[2, 4, 8\]/,
  },
  {
    shapes: [[2, 5, 8], [2, 0, 8], [2, 0, 8], null],
    attrs: two,
    message: /0 keys of the 0 rows/,
  },
  {
    shapes: [[2, 5, 8], [2, 4, 8], [2, 4, 8], null],
    attrs: { ...two, dropout: { p: 1 } },
    message: /dropout p is 1, expected 0 <= p < 1/,
  },
];

export const attention = row(ops.attention, {
  call: ([q, k, v, keep = null, bias = null], attrs) =>
    ad.attention(given(q), given(k), given(v), keep, { ...(attrs as unknown as ops.AttentionAttrs), bias }),
  reference,
  make([B = 0, length = 0, C = 0, ...more], n) {
    if (more.length > 0) return null;
    // Up to 8 queries have a kernel of their own: twelve and four more are on the same side.
    const T = length === 8 ? 12 : length;
    const heads = C % 2 === 0 ? 2 : 1;
    return {
      inputs: [...qkv({ B, T, S: T + 1, heads, D: C / heads }), padding(B, T + 1), biased([T, T + 1])],
      attrs: { heads, causal: n % 2 === 0 },
    };
  },
  // Scores of 1e60.
  without: ["1e30"],
  // Head sizes are constants of the kernel of single queries.
  constants: [2],
  cases: [...plain, ...biases, ...grouped, ...caches, ...tiles, ...tokens, ...blocks, ...extremes],
  // Softmax 3e-7 for each weight; values and gradients of up to 4 are multiplied with it.
  forward: absolute(2e-6),
  backward: absolute(8e-6),
  refuses,
  variants: true,
  fused: true,
});
