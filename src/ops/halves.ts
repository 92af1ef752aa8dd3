import { type DType, type Gpu, GpuArray, isFloating, isHalf, type Shape } from "../array/index.ts";
import { castArray } from "./cast.ts";
import type { AnyOp, Inputs, Needs, Result, Saved } from "./define-op.ts";
import { contiguous } from "./kernels.ts";

/**
 * How ops meet halves: an op that does not name an input in `half` is handed an f32 copy of it, computes in f32, and
 * its output is rounded where all floating inputs are of one half type. What backward needs is kept as it is stored,
 * not as the copy.
 */

/**
 * The element type of an op's output: of its floats, which meet in f32 where their types differ. Where bits are only
 * moved, that of the first array whose bits they are.
 */
export function resultType(op: AnyOp, inputs: Inputs, attrs: unknown): DType {
  if (op.result) {
    const types = inputs.map((x) => x?.dtype ?? null);
    return op.result(types, attrs);
  }
  let result: DType | null = null;
  for (const x of inputs) {
    if (!x || !isFloating(x.dtype)) continue;
    if (result !== null && result !== x.dtype) return "f32";
    result = x.dtype;
  }
  return result ?? inputs.find((x, i) => x && takesAny(op, i))?.dtype ?? "f32";
}

function takesAny({ dtypes }: AnyOp, i: number): boolean {
  return dtypes === "any" || dtypes?.[i] === "any";
}

/** Runs an op forward on arrays of any layout and floating type. */
export function runForward(
  gpu: Gpu,
  op: AnyOp,
  inputs: Inputs,
  attrs: unknown,
  needs: Needs,
  shape: Shape,
): Result<Saved> {
  if (!inputs.some((x) => x && isHalf(x.dtype))) {
    const arrays = op.strided ? inputs : inputs.map((x) => x && contiguous(gpu, x));
    return op.forward(gpu, arrays, attrs, needs, shape);
  }
  const stored = new Map<unknown, GpuArray>();
  const arrays = inputs.map((x, i) => {
    if (!x) return null;
    const ready = op.strided ? x : contiguous(gpu, x);
    if (!isHalf(x.dtype) || op.half?.inputs.includes(i)) return ready;
    const wide = castArray(gpu, ready, "f32");
    stored.set(wide, x);
    return wide;
  });
  const result = op.forward(gpu, arrays, attrs, needs, shape);
  const type = resultType(op, inputs, attrs);
  const { output } = result;
  const rounded = output.dtype === "f32" && isHalf(type) ? castArray(gpu, output, type) : output;
  stored.set(output, rounded);
  if (!needs.any) return { output: rounded, saved: result.saved };
  const saved: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(result.saved)) saved[name] = stored.get(value) ?? value;
  return { output: rounded, saved };
}

/** Gradients of an op's inputs from that of its output, of whatever floating types. */
export function runBackward(
  gpu: Gpu,
  op: AnyOp,
  dy: GpuArray,
  saved: Saved,
  attrs: unknown,
  needs: Needs,
): readonly (GpuArray | null)[] {
  const backward = op.backward;
  if (!backward) return [];
  const ready = op.strided ? dy : contiguous(gpu, dy);
  return backward.call(op, gpu, castArray(gpu, ready, "f32"), widened(gpu, op, saved), attrs, needs);
}

function widened(gpu: Gpu, op: AnyOp, saved: Saved): Saved {
  const isWide = (name: string, value: unknown): boolean =>
    !(value instanceof GpuArray) || !isHalf(value.dtype) || op.half?.saved?.includes(name) === true;
  const names = Object.keys(saved);
  if (names.every((name) => isWide(name, saved[name]))) return saved;
  const result: Record<string, unknown> = {};
  for (const name of names) {
    const value = saved[name];
    result[name] = isWide(name, value) ? value : castArray(gpu, contiguous(gpu, value as GpuArray), "f32");
  }
  return result;
}
