import type { HalfType } from "../array/index.ts";
import { Parameter, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

/**
 * Something with parameters. They are found by walking the properties of the object, through modules, arrays, plain
 * records, Maps and Sets, and named by the way there: `encoder.layer.0.output.dense.weight`. `#private` fields cannot be
 * seen: hold what is trained in a property, or override `namedParameters`. Modules hold no mode: dropout acts where a
 * stream is passed.
 */
export abstract class Module {
  #isDisposed = false;

  /**
   * Parameters of this module and of those inside it, by their dotted names, in order of declaration. One that is
   * reached twice (tied weights) comes once, by its first name. A tensor that requires a gradient and is no Parameter
   * throws: it would be trained by nobody.
   */
  *namedParameters(prefix = ""): IterableIterator<[string, Parameter]> {
    for (const [path, part] of partsOf(this)) if (part instanceof Parameter) yield [`${prefix}${path}`, part];
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
    if (this.#isDisposed) return; // by way of a parent that a module inside knows
    this.#isDisposed = true;
    disposeInside(this, new Set());
  }
}

/** Disposes the parameters and modules that a value holds; of modules only those that `seen` has not. */
function disposeInside(value: object, seen: Set<unknown>): void {
  seen.add(value);
  for (const [, inner] of insideOf(value, true)) {
    if (inner instanceof Parameter || inner instanceof Module) inner.dispose();
    else if (typeof inner === "object" && inner !== null && !seen.has(inner)) disposeInside(inner, seen);
  }
}

/**
 * A module and all modules and parameters inside it, each once and with the way to it: "" for the module itself. A
 * module inside that names its parameters itself is asked for them.
 */
export function* partsOf(root: Module): IterableIterator<[path: string, part: Module | Parameter]> {
  const seen = new Set<unknown>(); // also what makes a way back to a parent end
  function* visit(path: string, value: unknown): IterableIterator<[string, Module | Parameter]> {
    if (typeof value !== "object" || value === null || seen.has(value)) return;
    seen.add(value);
    if (value instanceof Parameter) yield [path, value];
    else if (value instanceof Tensor) checkFrozen(root, path, value);
    else {
      if (value instanceof Module) yield [path, value];
      for (const [name, inner] of insideOf(value, value === root))
        yield* visit(path === "" ? name : `${path}.${name}`, inner);
    }
  }
  yield* visit("", root);
}

/** What a module or a container holds, by name; of anything else nothing. */
function insideOf(value: object, isRoot: boolean): Iterable<[string, unknown]> {
  if (value instanceof Module) {
    const namesItself = value.namedParameters !== Module.prototype.namedParameters;
    return namesItself && !isRoot ? value.namedParameters() : Object.entries(value);
  }
  if (value instanceof Map) return [...value].map(([key, inner]) => [String(key), inner]);
  if (Array.isArray(value) || value instanceof Set)
    return [...value].map((inner, i): [string, unknown] => [String(i), inner]);
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null ? Object.entries(value) : [];
}

function checkFrozen(root: Module, path: string, tensor: Tensor): void {
  if (!tensor.requiresGrad) return;
  throw new ShapeError(
    `${root.constructor.name}.${path}: a tensor that requires a gradient is no Parameter; use Parameter.from(...)`,
  );
}

/** Number of elements of some parameters, each counted once. */
export function countParameters(parameters: Iterable<Parameter>): number {
  let n = 0;
  for (const parameter of new Set(parameters)) n += parameter.size;
  return n;
}
