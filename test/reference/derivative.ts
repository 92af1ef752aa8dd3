import { at, indexMap, type RefIndices, type RefTensor, ref } from "./tensor.ts";

/** What a reference is called with: floats, whole numbers, or an optional input that is absent. */
export type RefInput = RefTensor | RefIndices | null;

/**
 * Gradients of the inputs of an op, null for those that hold no floats: from dy, the inputs, its value and attributes.
 * null instead of them: no formula for these attributes.
 */
export type Derivative = (
  dy: RefTensor,
  inputs: readonly RefInput[],
  y: RefTensor,
  attrs: Readonly<Record<string, unknown>>,
) => readonly (RefTensor | null)[] | null;

/** Input `i` as floats. */
export function floatsAt(inputs: readonly RefInput[], i: number): RefTensor {
  const x = inputs[i];
  if (!(x?.data instanceof Float64Array)) throw new Error(`derivative: input ${i} holds no floats`);
  return { shape: x.shape, data: x.data };
}

/** Adds up what broadcasting had stretched. */
export function sumTo(dy: RefTensor, shape: readonly number[]): RefTensor {
  const out = ref(shape);
  for (const [i, to] of indexMap(dy.shape, shape).entries()) out.data[to] = at(out.data, to) + at(dy.data, i);
  return out;
}
