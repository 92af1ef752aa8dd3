import { zip } from "./binary.ts";
import { type Derivative, floatsAt, sumTo } from "./derivative.ts";
import { erfc } from "./erf.ts";
import { at, type RefTensor, ref } from "./tensor.ts";

const ROOT_2_OVER_PI = Math.sqrt(2 / Math.PI);
const sigmoidOf = (v: number): number => 1 / (1 + Math.exp(-v));

/** dy/dx of a number: from x, y and the op's numbers a and b. */
type Slope = (x: number, y: number, attrs: { readonly a: number; readonly b: number }) => number;

const slopes: Readonly<Record<string, Slope>> = {
  neg: () => -1,
  abs: (x) => Math.sign(x),
  exp: (_x, y) => y,
  log: (x) => 1 / x,
  sqrt: (_x, y) => 0.5 / y,
  rsqrt: (x, y) => (-0.5 * y) / x,
  square: (x) => 2 * x,
  reciprocal: (x) => -1 / (x * x),
  relu: (x) => (x > 0 ? 1 : 0),
  gelu: (x) => 0.5 * erfc(-x * Math.SQRT1_2) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  geluTanh: (x) => {
    const t = Math.tanh(ROOT_2_OVER_PI * (x + 0.044715 * x ** 3));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT_2_OVER_PI * (1 + 3 * 0.044715 * x * x);
  },
  silu: (x) => sigmoidOf(x) * (1 + x * (1 - sigmoidOf(x))),
  tanh: (_x, y) => 1 - y * y,
  sigmoid: (_x, y) => y * (1 - y),
  softplus: sigmoidOf,
  erf: (x) => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x),
  clamp: (x, _y, { a, b }) => (x >= a && x <= b ? 1 : 0),
  scale: (_x, _y, { a }) => Math.fround(a),
  shift: () => 1,
  // Steps: central differences cannot step over them.
  floor: () => 0,
  ceil: () => 0,
  round: () => 0,
  trunc: () => 0,
  sign: () => 0,
  leakyRelu: (x, _y, { a }) => (x > 0 ? 1 : Math.fround(a)),
  elu: (x, _y, { a }) => (x > 0 ? 1 : Math.fround(a) * Math.exp(x)),
};

function pointwise(slope: Slope): Derivative {
  return (dy, inputs, y, { a = 0, b = 0 }) => {
    const x = floatsAt(inputs, 0);
    const numbers = { a: Number(a), b: Number(b) };
    return [
      ref(
        x.shape,
        dy.data.map((g, i) => g * slope(at(x.data, i), at(y.data, i), numbers)),
      ),
    ];
  };
}

/** The factors of dy for two broadcast operands. */
function pair(toA: (a: number, b: number) => number, toB: (a: number, b: number) => number): Derivative {
  return (dy, inputs) => {
    const [a, b] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
    const to = (factor: (a: number, b: number) => number, shape: readonly number[]): RefTensor =>
      sumTo(
        zip(dy, zip(a, b, factor), (g, f) => g * f),
        shape,
      );
    return [to(toA, a.shape), to(toB, b.shape)];
  };
}

export const pointwiseDerivatives: Readonly<Record<string, Derivative>> = {
  ...Object.fromEntries(Object.entries(slopes).map(([name, slope]) => [name, pointwise(slope)])),
  add: pair(
    () => 1,
    () => 1,
  ),
  sub: pair(
    () => 1,
    () => -1,
  ),
  mul: pair(
    (_a, b) => b,
    (a) => a,
  ),
  // Half to each of two equal ones.
  maximum: pair(
    (a, b) => (a > b ? 1 : a < b ? 0 : 0.5),
    (a, b) => (b > a ? 1 : b < a ? 0 : 0.5),
  ),
  minimum: pair(
    (a, b) => (a < b ? 1 : a > b ? 0 : 0.5),
    (a, b) => (b < a ? 1 : b > a ? 0 : 0.5),
  ),
  div: pair(
    (_a, b) => 1 / b,
    (a, b) => -a / (b * b),
  ),
};
