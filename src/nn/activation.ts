import { gelu, geluTanh, relu, sigmoid, silu, type Tensor, tanh } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Activation } from "../ops/index.ts";

const ACTIVATIONS: Readonly<Record<Activation, (x: Tensor) => Tensor>> = {
  relu,
  gelu,
  geluTanh,
  silu,
  tanh,
  sigmoid,
};

/** f(x) for an activation by its name, as `linear` has it in its kernel. */
export function activate(x: Tensor, name: Activation): Tensor {
  return ACTIVATIONS[name](x);
}

/** Refuses a name that is no activation. */
export function expectActivation(what: string, name: unknown): asserts name is Activation {
  if (typeof name === "string" && Object.hasOwn(ACTIVATIONS, name)) return;
  throw new ShapeError(`${what}: activation "${name}" is not one of ${Object.keys(ACTIVATIONS).join(", ")}`);
}
