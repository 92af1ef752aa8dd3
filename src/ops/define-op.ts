import { type DType, type Gpu, type GpuArray, isFloating, type Shape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";

/** Inputs of an op: arrays, and null for an optional one that is absent. */
export type Inputs = readonly (GpuArray | null)[];

/** The shapes of some inputs, null where the input is. */
export type ShapesOf<I extends Inputs> = {
  readonly [K in keyof I]: I[K] extends GpuArray ? Shape : Shape | null;
};

/** Which inputs need a gradient. `any`: at least one does. */
export interface Needs extends ReadonlyArray<boolean> {
  readonly any: boolean;
}

/**
 * What backward reads: arrays live until then, and must not be written to until then; other values are kept as they
 * are. An array that backward takes from `attrs` (a clock) belongs here too.
 */
export type Saved = Readonly<Record<string, unknown>>;

export interface Result<S> {
  readonly output: GpuArray;
  /** Nothing is kept when no input needs a gradient. */
  readonly saved: S;
}

/**
 * An op: shape rule, forward and backward in one place. It works on arrays, never on Tensors, and records
 * dispatches; it frees nothing (see Gpu.scope).
 */
export interface Op<I extends Inputs, A, S extends Saved> {
  readonly name: string;
  /** Takes strided views as they are. Other ops are handed contiguous copies. */
  readonly strided?: boolean;
  /** Element types of the inputs; f32 stands for all floating types. "any": bits are only moved. Default: f32 for all. */
  readonly dtypes?: readonly (DType | "any")[] | "any";
  /**
   * Which f16 and bf16 arrays the op reads as they are stored: inputs by number, saved arrays by name. It is handed
   * f32 copies of the others, and gradients always as f32. See halves.ts.
   */
  readonly half?: { readonly inputs: readonly number[]; readonly saved?: readonly string[] };
  /** autocast() hands it halves: products, whose sums are f32 all the same. */
  readonly autocast?: boolean;
  /** Element type of the output. Default: that of the floating inputs, f32 where they differ; of moved bits their own. */
  result?(types: readonly (DType | null)[], attrs: A): DType;
  /** Checks shapes and attributes, throws ShapeError, and gives the output's shape. */
  shape(shapes: ShapesOf<I>, attrs: A): Shape;
  /** `shape` is what the rule gave. */
  forward(gpu: Gpu, inputs: I, attrs: A, needs: Needs, shape: Shape): Result<S>;
  /**
   * Gradients of the inputs; null where `needs` is false (which it may be in backward and was not in forward: not
   * every gradient is wanted each time). An op without it has no derivative. `gpu.emptyFor(i, shape)` makes the
   * array for a parameter's gradient.
   */
  backward?(gpu: Gpu, dy: GpuArray, saved: S, attrs: A, needs: Needs): readonly (GpuArray | null)[];
  /**
   * i32 indices of the slices (along the first dimension) that input `i`'s gradient reaches, as a bank's route has
   * them; null or absent: all. An optimiser that keeps a state for each slice leaves the others alone.
   */
  touched?(saved: S, i: number): GpuArray | null;
  /** The op works on each element alone: where its gradient reaches only some slices, that of its input does too. */
  readonly keepsSlices?: boolean;
}

/** Declares an op. The types of inputs, attributes and saved values follow from the functions. */
export function defineOp<I extends Inputs, A, S extends Saved>(op: Op<I, A, S>): Op<I, A, S> {
  return op;
}

/** Checks the inputs' element types against the op's rule. */
export function checkTypes(op: Pick<AnyOp, "name" | "dtypes">, inputs: Inputs): void {
  const { name, dtypes = [] } = op;
  if (dtypes === "any") return;
  inputs.forEach((x, i) => {
    const expected = dtypes[i] ?? "f32";
    if (x && expected !== "any" && x.dtype !== expected && !(expected === "f32" && isFloating(x.dtype)))
      throw new ShapeError(
        `${name}: input ${i} is ${x.dtype}, expected ${expected}; cast it with to("${expected}")`,
      );
  });
}

/** An op whose types are forgotten: what the tape holds. */
export type AnyOp = Op<Inputs, unknown, Saved>;
