// Products with an activation: references, cases and bounds that matmul and linear share.
import type { Activation } from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { type Bound, type Context, largest, plus, terms } from "./bounds.ts";
import { type Attributes, type Case, floats, type Value } from "./row.ts";

const ACTIVATIONS: Readonly<Record<Activation, (x: R.RefTensor) => R.RefTensor>> = {
  relu: R.relu,
  gelu: R.gelu,
  geluTanh: R.geluTanh,
  silu: R.silu,
  tanh: R.tanh,
  sigmoid: R.sigmoid,
};

export function activate(z: R.RefTensor, { activation }: Attributes): R.RefTensor {
  return activation === undefined ? z : ACTIVATIONS[activation as Activation](z);
}

/** Terms of a sum, the bias among them; a is not transposed here. */
const count: (context: Context) => number = ({ inputs }) => (floats(inputs, 0).shape.at(-1) ?? 1) + 1;

/** The error of z, at slopes of at most 1.13, and that of the activation itself. */
const forward: Bound = (context) => {
  const own = terms(count, 1.13)(context);
  const { data } = context.expected;
  return (i) => own(i) + 2e-6 * Math.max(1, Math.abs(data[i] ?? 0));
};

/** The sum itself, and each of its terms: the error of the slope, and of a z that is off. No curvature is above 1.2. */
const backward: Bound = (context) => {
  const [a, b] = [floats(context.inputs, 0), floats(context.inputs, 1)];
  const K = count(context);
  const errorOfZ = (4 + Math.sqrt(K)) * 2 ** -24 * K * largest(a) * largest(b);
  const { data } = context.magnitude();
  const ofSlope: Bound = () => (i) => (8e-6 + 1.2 * errorOfZ) * Math.abs(data[i] ?? 0);
  return plus(terms(32, 4), ofSlope)(context); // sums of at most 32 rows
};

/**
 * Every activation for each of the sets of inputs. `product` is what they are applied to: z is kept away from the
 * kink of relu, which central differences cannot step over.
 */
export function activatedCases(
  product: (inputs: readonly Value[], attrs: Attributes) => R.RefTensor,
  sets: Readonly<Record<string, readonly Value[]>>,
): Case[] {
  return Object.entries(sets).flatMap(([name, inputs]) => {
    if (product(inputs, {}).data.some((z) => Math.abs(z) < 1e-4))
      throw new Error(`table: ${name} has a z at the kink of relu; take another seed`);
    return Object.keys(ACTIVATIONS).map((activation) => ({
      name: `${activation}, ${name}`,
      inputs,
      attrs: { activation },
      forward,
      backward,
    }));
  });
}
