// Rows of the root-mean-square norm and of rotary position embedding.
import type { Gpu } from "../../src/array/index.ts";
import * as ad from "../../src/autograd/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { type Context, terms } from "./bounds.ts";
import { type Attributes, type Case, floats, given, normal, type Row, row, type Value } from "./row.ts";

const normOf = (
  x: R.RefTensor,
  weight = normal([x.shape.at(-1) ?? 1], 90),
  eps = 1e-6,
): Pick<Case, "inputs" | "attrs"> => ({ inputs: [x, weight], attrs: { eps } });

/** Relative error of rstd and of a product with it: a sum of C squares, a root, a quotient, two products. */
function relative({ inputs }: Context, terms = 0): number {
  return (12 + Math.sqrt(floats(inputs, 0).shape.at(-1) ?? 1) + Math.sqrt(terms)) * 2 ** -24;
}

/** |dx| at its largest terms: rstd (|g| + |xhat| mean |g xhat|), g = dy weight. */
function dxMagnitude({ inputs, attrs, dy }: Context): R.RefTensor {
  const [x, weight] = [floats(inputs, 0), floats(inputs, 1)];
  const squares = R.mean(R.square(x), { dims: [-1], keepDim: true });
  const rstd = R.map(squares, (v) => 1 / Math.sqrt(v + Number(attrs.eps)));
  const g = R.map(R.mul(dy ?? x, weight), Math.abs);
  const xhat = R.map(R.mul(x, rstd), Math.abs);
  const mean = R.mean(R.mul(g, xhat), { dims: [-1], keepDim: true });
  return R.mul(rstd, R.add(g, R.mul(xhat, mean)));
}

/** Σ |dy xhat| of each column. */
function dweightMagnitude({ inputs, attrs, dy }: Context): R.RefTensor {
  const x = floats(inputs, 0);
  const xhat = R.rmsNorm(x, R.ref(floats(inputs, 1).shape, 1), { eps: Number(attrs.eps) });
  const product = R.map(R.mul(dy ?? x, xhat), Math.abs);
  return R.sum(product, { dims: [...x.shape.keys()].slice(0, -1) });
}

const rmsNorm = row(ops.rmsNorm, {
  call: ([x, weight], { eps }) => ad.rmsNorm(given(x), given(weight), Number(eps)),
  workgroup: "row",
  reference: (inputs, { eps }) => R.rmsNorm(floats(inputs, 0), floats(inputs, 1), { eps: Number(eps) }),
  cases: [
    { name: "[3, 5, 7]", ...normOf(normal([3, 5, 7], 1)) },
    { name: "[2, 3, 64]", ...normOf(normal([2, 3, 64], 2, { mean: 1 })) },
    { name: "[70, 4], eps 1e-12", ...normOf(normal([70, 4], 3), undefined, 1e-12) },
    { name: "[67, 3]", ...normOf(normal([67, 3], 4)) },
    // Central differences of so large values are too coarse for so small slopes.
    { name: "of 1e4", ...normOf(normal([3, 24], 5, { std: 1e4 })), gradient: false },
    { name: "of 1e-4, where eps counts", ...normOf(normal([3, 21], 6, { std: 1e-4 })) },
    { name: "a row of zeros", ...normOf(R.concat([R.ref([1, 12], 0), normal([2, 12], 7)])) },
    { name: "one column", ...normOf(normal([4, 1], 8)) },
    { name: "no rows", ...normOf(normal([0, 5], 9)) },
    { name: "[2, 1001]", ...normOf(normal([2, 1001], 10)), gradient: false },
  ],
  forward: (context) => (i) => relative(context) * Math.abs(context.expected.data[i] ?? 0),
  backward: (context) => {
    const isVector = floats(context.inputs, 0).shape.length === 1;
    const isX = isVector || context.expected.shape.length > 1;
    const { data } = isX ? dxMagnitude(context) : dweightMagnitude(context);
    // Of a vector both gradients have one shape.
    const other = isVector ? dweightMagnitude(context).data : data;
    const rows = isX ? 0 : (context.dy?.data.length ?? 0) / Math.max(1, data.length);
    return (i) => 4 * relative(context, rows) * Math.max(data[i] ?? 0, other[i] ?? 0);
  },
  refuses: [
    { shapes: [[3, 7], [6]], attrs: { eps: 1e-6 }, message: /weight is \[6\], expected \[7\]/ },
    { shapes: [[3, 0], [0]], attrs: { eps: 1e-6 }, message: /\[3, 0\] has no last dimension/ },
    { shapes: [[], []], attrs: { eps: 1e-6 }, message: /\[\] has no last dimension/ },
    { shapes: [[3, 7], [7]], attrs: { eps: -1 }, message: /eps is -1, expected 0 or more/ },
  ],
  variants: true,
});

const POSITIONS = 40;
interface Tables {
  readonly cos: ad.Tensor;
  readonly sin: ad.Tensor;
}

const kept = new WeakMap<Gpu, Map<number, Tables>>();

/**
 * Attributes with tables for `size` elements of a head: for the op, as tensors for the public function, and as floats
 * for the reference.
 */
function turning(size: number, rest: object = {}): (gpu: Gpu) => object {
  return (gpu) => {
    const { cos, sin, shape } = ad.rotaryTables(POSITIONS, size);
    const own = kept.get(gpu) ?? new Map<number, Tables>();
    kept.set(gpu, own);
    const tensors = own.get(size) ?? { cos: ad.tensor(gpu, cos, shape), sin: ad.tensor(gpu, sin, shape) };
    own.set(size, tensors);
    const arrays = { cos: tensors.cos.array, sin: tensors.sin.array };
    return { ...rest, ...arrays, tensors, floats: { cos: R.ref(shape, cos), sin: R.ref(shape, sin) } };
  };
}

function turned(inputs: readonly Value[], attrs: Attributes, sign = 1): R.RefTensor {
  const [x, positions] = [floats(inputs, 0), inputs[1]];
  const { cos, sin } = attrs.floats as { readonly cos: R.RefTensor; readonly sin: R.RefTensor };
  const tables = { cos, sin: R.map(sin, (v) => sign * v) };
  const ids = positions ? R.indices(positions.shape, positions.data) : null;
  return R.rotaryEmbedding(x, ids, { ...attrs, ...tables });
}

const positions = R.indices([2, 3], [7, 0, 39, 5, 5, 12]);
/** Tables that are described: the shape rule reads no values of them. */
const tables = (shape: readonly number[], dtype = "f32") => ({
  cos: { shape, dtype },
  sin: { shape, dtype },
});

const rotary = row(ops.rotaryEmbedding, {
  call([x, positions], { tensors, cos: _cos, sin: _sin, floats: _floats, ...options }) {
    const { cos, sin } = tensors as Tables;
    return ad.rotaryEmbedding(given(x), cos, sin, { ...options, positions });
  },
  make(shape, seed) {
    const [, tokens = 0, , size = 0] = shape;
    if (shape.length !== 4 || tokens > POSITIONS || size < 2) return null;
    return { inputs: [normal(shape, seed), null], attrs: turning(2 * Math.floor(size / 2)) };
  },
  reference: (inputs, attrs) => turned(inputs, attrs),
  // |u cos| + |v sin| of one half with the sign of the sine, of the other without it.
  magnitude(inputs, attrs) {
    const { cos, sin } = attrs.floats as { readonly cos: R.RefTensor; readonly sin: R.RefTensor };
    const positive = { ...attrs, floats: { cos: R.abs(cos), sin: R.abs(sin) } };
    return R.maximum(turned(inputs, positive, 1), turned(inputs, positive, -1));
  },
  cases: [
    { name: "[2, 3, 5, 8]", inputs: [normal([2, 3, 5, 8], 1), null], attrs: turning(8) },
    {
      name: "interleaved",
      inputs: [normal([2, 3, 5, 8], 2), null],
      attrs: turning(8, { interleaved: true }),
    },
    {
      name: "heads in channels, behind 9",
      inputs: [normal([2, 3, 12], 3), null],
      attrs: turning(6, { heads: 2, offset: 9 }),
    },
    {
      name: "with positions",
      inputs: [normal([2, 3, 12], 4), positions],
      attrs: turning(4, { heads: 3, interleaved: true }),
    },
    { name: "4 of 7 elements", inputs: [normal([2, 3, 2, 7], 5), positions], attrs: turning(4) },
    {
      name: "4 of 7, interleaved",
      inputs: [normal([2, 3, 2, 7], 6), null],
      attrs: turning(4, { interleaved: true, offset: 37 }),
    },
    {
      name: "one token, at the last position",
      inputs: [normal([1, 1, 1, 2], 7), null],
      attrs: turning(2, { offset: 39 }),
    },
    { name: "no tokens", inputs: [normal([2, 0, 3, 4], 8), null], attrs: turning(4) },
  ],
  forward: terms(2),
  backward: terms(2, 4),
  refuses: [
    {
      shapes: [[2, 3, 8], null],
      attrs: tables([9, 4]),
      message: /x \[2, 3, 8\] is neither \[B, T, H, D\] nor/,
    },
    {
      shapes: [[2, 3, 8], null],
      attrs: { ...tables([9, 1]), heads: 3 },
      message: /x \[2, 3, 8\] with 3 heads/,
    },
    { shapes: [[2, 3, 2, 8], null], attrs: { ...tables([9, 4]), heads: 3 }, message: /with 3 heads/ },
    {
      shapes: [[2, 3, 1, 8], null],
      attrs: tables([9, 5]),
      message: /cos \[9, 5\] and sin \[9, 5\] do not fit heads of 8/,
    },
    {
      shapes: [[2, 3, 1, 8], null],
      attrs: tables([9, 4], "i32"),
      message: /tables of i32 and i32, expected f32/,
    },
    { shapes: [[2, 3, 1, 8], [3]], attrs: tables([9, 4]), message: /positions \[3\], expected \[2, 3\]/ },
    {
      shapes: [[2, 3, 1, 8], null],
      attrs: { ...tables([9, 4]), offset: 7 },
      message: /positions 7\.\.9 are beyond the tables' 9/,
    },
    {
      shapes: [[2, 3, 1, 8], null],
      attrs: { ...tables([9, 4]), offset: -1 },
      message: /offset -1, expected 0 or more/,
    },
    {
      shapes: [
        [2, 3, 1, 8],
        [2, 3],
      ],
      attrs: { ...tables([9, 4]), offset: 1 },
      message: /offset 1, .* none with positions/,
    },
  ],
});

export const norms: readonly Row[] = [rmsNorm, rotary];
