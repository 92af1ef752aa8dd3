import { type DType, Gpu, isFloating, type Shape, showShape } from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import { isTensor } from "./scope.ts";

/** What console.log of Node asks an object for. */
export const INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom") as never; // a symbol of its own to TypeScript

interface Described {
  readonly gpu: Gpu;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly requiresGrad: boolean;
}

/** "Parameter f32 [2, 3] requiresGrad" */
export function describe(tensor: Described): string {
  const { dtype, shape, requiresGrad } = tensor;
  return `${tensor.constructor.name} ${dtype} ${showShape(shape)}${requiresGrad ? " requiresGrad" : ""}`;
}

/** Throws unless `gradient` can be that of `x`. */
export function checkGradient(x: Described, gradient: Described): void {
  if (!isTensor(gradient))
    throw new ShapeError(`grad: a ${typeof gradient} is no gradient; set a tensor or null`);
  if (gradient.gpu !== x.gpu) throw new GpuError("grad: the gradient is of another device");
  const given = `${gradient.dtype} ${showShape(gradient.shape)}`;
  const isOfShape =
    gradient.shape.length === x.shape.length && gradient.shape.every((n, i) => n === x.shape[i]);
  if (!isOfShape || !isFloating(gradient.dtype))
    throw new ShapeError(`grad: a gradient ${given} for a tensor ${x.dtype} ${showShape(x.shape)}`);
}

/** Throws unless tensors can be made on `gpu`. */
export function checkGpu(op: string, gpu: unknown): void {
  if (!(gpu instanceof Gpu))
    throw new ShapeError(`${op}: the first argument is no device; pass the one of await openGpu()`);
}

/** Throws, in the name of what is composed of other ops, unless x has fractions. */
export function checkFloats(op: string, { dtype, shape }: Pick<Described, "dtype" | "shape">): void {
  if (!isFloating(dtype))
    throw new ShapeError(`${op}: ${dtype} ${showShape(shape)}, expected f32; cast it with to("f32")`);
}

/** What was given where a tensor belongs, and the way out. */
export function whatIs(value: unknown): string {
  if (value instanceof Promise) return "a Promise; await it first: await item(), await data()";
  if (typeof value !== "object" || value === null) return `a ${typeof value}; pass a tensor`;
  if (Array.isArray(value) || ArrayBuffer.isView(value))
    return "a list of numbers; make it a tensor(gpu, ...)";
  return `a ${value.constructor.name}; pass a tensor`;
}
