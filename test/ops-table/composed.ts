// Public functions that are composed of ops: what ops.test.ts fails without.
import * as ad from "../../src/autograd/index.ts";
import * as R from "../reference/index.ts";
import { type Bound, type Context, exact, plus, terms, ulps } from "./bounds.ts";
import { composedLayout } from "./composed-layout.ts";
import { composedLosses } from "./composed-losses.ts";
import { type Attributes, type ComposedRow, floats, given, normal, sizeOf, type Value } from "./row.ts";
import { statistics } from "./statistics.ts";

const axesOf = ({ axes }: Attributes) => axes as readonly number[] | undefined;
const keepOf = ({ keepDim }: Attributes) => ({ keepDim: keepDim === true });

/** How many elements of the first input meet in one of the result. */
function sharing({ inputs, expected }: Context): number {
  return sizeOf(floats(inputs, 0).shape) / Math.max(1, expected.data.length);
}

const mean: ComposedRow = {
  name: "mean",
  call: (inputs, attrs) => ad.mean(given(inputs[0]), axesOf(attrs), keepOf(attrs)),
  reference: (inputs, attrs) => R.mean(floats(inputs, 0), { dims: axesOf(attrs), ...keepOf(attrs) }),
  cases: [
    { name: "of all", inputs: [normal([3, 5, 7], 1)] },
    { name: "over [1], kept", inputs: [normal([3, 5, 8], 2)], attrs: { axes: [1], keepDim: true } },
    { name: "over [0, 2]", inputs: [normal([3, 5, 7], 3)], attrs: { axes: [0, 2] } },
    { name: "over nothing", inputs: [normal([3, 4], 4)], attrs: { axes: [] } },
  ],
  // The mean of nothing: 0 / 0.
  without: ["empty", "empty rows"],
  forward: plus(terms(sharing), ulps(2)),
  backward: ulps(4),
  refuses: [{ shapes: [[3, 4]], attrs: { axes: [2] }, message: /dimension 2 is not one of a rank-2 array/ }],
  variants: true,
};

const withZeros = R.ref([3, 4]);
withZeros.data.set([2, 0, -3, 1, 0, 0, 1, 1, 1.5, -1, 2, 4]);

/** Each of n - 1 products rounds once. */
const factors: Bound = (context) => ulps(2 * sharing(context))(context);

const prod: ComposedRow = {
  name: "prod",
  call: ([x], attrs) => ad.prod(given(x), axesOf(attrs), keepOf(attrs)),
  reference: (inputs, attrs) => R.prod(floats(inputs, 0), { dims: axesOf(attrs), ...keepOf(attrs) }),
  cases: [
    { name: "of all", inputs: [normal([3, 5], 1)] },
    { name: "over [1], kept", inputs: [normal([3, 5, 8], 2)], attrs: { axes: [1], keepDim: true } },
    { name: "over [0, 2]", inputs: [normal([3, 5, 7], 3)], attrs: { axes: [0, 2] } },
    { name: "over nothing", inputs: [normal([3, 4], 4)], attrs: { axes: [] } },
    { name: "with no, one and two zeros in a row", inputs: [withZeros], attrs: { axes: [-1] } },
    { name: "of nothing", inputs: [R.ref([2, 0, 3])], attrs: { axes: [1] }, gradient: false },
  ],
  // Products of many elements leave the range of f32.
  without: ["vector", "primes", "fours", "long rows", "many rows", "grid", "1e4", "1e30"],
  forward: factors,
  // The gradient has as many factors as the product.
  backward: (context) => ulps(64)(context),
  refuses: [
    { shapes: [[3, 4]], attrs: { axes: [2] }, message: /prod: dimension 2 is not one of a rank-2 array/ },
  ],
};

const stack: ComposedRow = {
  name: "stack",
  call: (inputs, { axis }) => ad.stack(inputs.map(given), Number(axis ?? 0)),
  reference: (inputs, { axis }) =>
    R.stack(
      inputs.map((_, i) => floats(inputs, i)),
      { dim: Number(axis ?? 0) },
    ),
  cases: [
    { name: "three of [3, 5]", inputs: [normal([3, 5], 1), normal([3, 5], 2), normal([3, 5], 3)] },
    { name: "two along -1", inputs: [normal([3, 4], 4), normal([3, 4], 5)], attrs: { axis: -1 } },
    { name: "two along 1", inputs: [normal([2, 3, 4], 6), normal([2, 3, 4], 7)], attrs: { axis: 1 } },
  ],
  // It makes a dimension more.
  without: ["rank 6"],
  forward: exact,
  backward: exact,
  refuses: [
    {
      shapes: [
        [3, 4],
        [3, 5],
      ],
      message: /^stack: \[3, 4\] and \[3, 5\] differ in shape/,
    },
    { shapes: [[3, 4]], attrs: { axis: 3 }, message: /stack: dimension 3 is not one of a rank-3 array/ },
  ],
};

const transpose: ComposedRow = {
  name: "transpose",
  call: (inputs, { a, b }) => ad.transpose(given(inputs[0]), Number(a ?? 0), Number(b ?? -1)),
  reference: (inputs, { a = 0, b = -1 }) => {
    const x = floats(inputs, 0);
    const order = [...x.shape.keys()];
    const [i, j] = [Number(a), Number(b)].map((d) => (d < 0 ? d + order.length : d)) as [number, number];
    [order[i], order[j]] = [j, i];
    return R.permute(x, order);
  },
  cases: [
    { name: "[3, 5, 7]", inputs: [normal([3, 5, 7], 1)] },
    { name: "[2, 3, 4] of 0 and 1", inputs: [normal([2, 3, 4], 2)], attrs: { a: 0, b: 1 } },
  ],
  forward: exact,
  backward: exact,
  refuses: [{ shapes: [[3, 4]], attrs: { a: 2 }, message: /transpose: dimension 2/ }],
};

/** A number as the second operand: other ops than with a tensor. */
function withNumber(
  fn: (x: ad.Tensor, a: number) => ad.Tensor,
  name: string,
  f: (x: number, a: number) => number,
): ComposedRow {
  return {
    name: `${name} with a number`,
    call: (inputs, { a }) => fn(given(inputs[0]), Number(a)),
    reference: (inputs: readonly Value[], { a }: Attributes) =>
      R.map(floats(inputs, 0), (v) => f(v, Math.fround(Number(a)))),
    cases: [{ name: "-1.75", inputs: [normal([3, 5, 7], 1)], attrs: { a: -1.75 } }],
    // Division multiplies with the reciprocal, rounded.
    forward: ulps(2),
    backward: ulps(4),
  };
}

export const composed: readonly ComposedRow[] = [
  ...composedLayout,
  ...composedLosses,
  ...statistics,
  mean,
  prod,
  stack,
  transpose,
  withNumber(ad.add, "add", (x, a) => x + a),
  withNumber(ad.sub, "sub", (x, a) => x - a),
  withNumber(ad.mul, "mul", (x, a) => x * a),
  withNumber(ad.div, "div", (x, a) => x / a),
];
