import type { HalfType } from "../array/index.ts";
import { Parameter } from "../autograd/index.ts";

/**
 * Something with parameters. They are found by walking the properties of the object, and named by the way
 * there: `encoder.layer.0.output.dense.weight`. Modules hold no mode: dropout acts where a stream is passed.
 */
export abstract class Module {
  /** Parameters of this module and of those inside it, by their dotted names, in order of declaration. */
  *namedParameters(prefix = ""): IterableIterator<[string, Parameter]> {
    for (const [name, value] of Object.entries(this)) yield* parametersIn(`${prefix}${name}`, value);
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** Parameters by name: what a checkpoint holds. */
  stateDict(): Map<string, Parameter> {
    return new Map(this.namedParameters());
  }

  /** Whether gradients are computed for every parameter inside. A frozen layer stores nothing for backward. */
  setRequiresGrad(value: boolean): this {
    for (const parameter of this.parameters()) parameter.requiresGrad = value;
    return this;
  }

  /**
   * Stores the frozen matrices inside in 16 bits, or in f32 again: half the memory, products of f32 all the same.
   * Vectors stay f32, since they are small; trained parameters too, which need an f32 master (see autocast).
   */
  to(dtype: HalfType | "f32"): this {
    for (const parameter of this.parameters())
      if (!parameter.requiresGrad && parameter.shape.length > 1) parameter.convert(dtype);
    return this;
  }

  /** Gives the memory of every parameter back, and what modules inside hold beside them. */
  dispose(): void {
    for (const value of Object.values(this)) disposeAll(value);
  }
}

function disposeAll(value: unknown): void {
  if (value instanceof Parameter || value instanceof Module) value.dispose();
  else if (Array.isArray(value)) for (const item of value) disposeAll(item);
}

function* parametersIn(name: string, value: unknown): IterableIterator<[string, Parameter]> {
  if (value instanceof Parameter) yield [name, value];
  else if (value instanceof Module) yield* value.namedParameters(`${name}.`);
  else if (Array.isArray(value))
    for (const [i, item] of value.entries()) yield* parametersIn(`${name}.${i}`, item);
}

/** Number of elements of some parameters. */
export function countParameters(parameters: Iterable<Parameter>): number {
  let n = 0;
  for (const parameter of parameters) n += parameter.size;
  return n;
}
