import type { Gpu, GpuArray } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { copyInto } from "./kernels.ts";
import { gelu, geluTanh, relu, sigmoid, silu, tanh, type UnaryOp } from "./unary.ts";

/** What a product may apply to its result in the same kernel. */
export type Activation = "relu" | "gelu" | "geluTanh" | "silu" | "tanh" | "sigmoid";

interface Row {
  /** Its number in shaders/lib/activation.wgsl. */
  readonly code: number;
  readonly op: UnaryOp;
  /** What its slope is computed from: the input z, or the output. */
  readonly slopeOf: "z" | "y";
}

const ACTIVATIONS: Readonly<Record<Activation, Row>> = {
  relu: { code: 1, op: relu, slopeOf: "y" },
  gelu: { code: 2, op: gelu, slopeOf: "z" },
  geluTanh: { code: 3, op: geluTanh, slopeOf: "z" },
  silu: { code: 4, op: silu, slopeOf: "z" },
  tanh: { code: 5, op: tanh, slopeOf: "y" },
  sigmoid: { code: 6, op: sigmoid, slopeOf: "y" },
};

/** Refuses a name that is no activation. */
export function checkActivation(op: string, name: string | undefined): void {
  if (name === undefined || Object.hasOwn(ACTIVATIONS, name)) return;
  throw new ShapeError(`${op}: activation "${name}" is not one of ${Object.keys(ACTIVATIONS).join(", ")}`);
}

/** The number of an activation for kernels; 0 for none. */
export function activationCode(name: Activation | undefined): number {
  return name ? ACTIVATIONS[name].code : 0;
}

/** y = f(z), where a product could not apply f itself. */
export function activate(gpu: Gpu, z: GpuArray, name: Activation, y: GpuArray): void {
  const { op } = ACTIVATIONS[name];
  const { output } = op.forward(gpu, [z], {}, Object.assign([false], { any: false }), z.shape);
  copyInto(gpu, output, y);
}

/**
 * An array for z, what the activation is applied to, where backward will need it: the slopes of relu, tanh and
 * sigmoid follow from the output.
 */
export function arrayForZ(
  gpu: Gpu,
  y: GpuArray,
  name: Activation | undefined,
  needed: boolean,
): GpuArray | null {
  return name && needed && ACTIVATIONS[name].slopeOf === "z" ? gpu.like(y) : null;
}

/** dz = dy f'(z), one dispatch; dy itself without an activation. `kept` is z where there is an array for it, else y. */
export function throughActivation(
  gpu: Gpu,
  dy: GpuArray,
  kept: GpuArray | null,
  name: Activation | undefined,
): GpuArray {
  if (!name) return dy;
  const { op } = ACTIVATIONS[name];
  const [dz] = op.backward?.(gpu, dy, { kept }, {}, Object.assign([true], { any: true })) ?? [];
  if (!dz) throw new ShapeError(`${op.name}: has no derivative`);
  return dz;
}
