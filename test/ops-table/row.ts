// What a row of the table says about an op, and the inputs that rows are made of.
import type { Gpu } from "../../src/array/index.ts";
import type { Tensor } from "../../src/autograd/index.ts";
import type { AnyOp, Inputs, Op, Saved } from "../../src/ops/index.ts";
import { type RefIndices, type RefTensor, ref } from "../reference/index.ts";
import type { Bound } from "./bounds.ts";

/** An input of a case: floats, whole numbers, or an optional one that is absent. */
export type Value = RefTensor | RefIndices | null;

export interface Case {
  readonly name: string;
  readonly inputs: readonly Value[];
  /** A function where attributes hold arrays of the device (the clock of dropout). */
  readonly attrs?: object | ((gpu: Gpu) => object);
  /** Bounds that hold for this case instead of the row's. */
  readonly forward?: Bound;
  readonly backward?: Bound;
  /** false: only the forward pass is compared (overflow, kinks, or too large for central differences). */
  readonly gradient?: false;
  /** Runs with the kernels for software adapters only: tens of thousands of barriers take half a minute on one of them. */
  readonly kernels?: "software";
}

export interface Refusal {
  readonly shapes: readonly (readonly number[] | null)[];
  readonly attrs?: object;
  /** The message, which names both values. */
  readonly message: RegExp;
}

/** The public function on tensors, given what a case holds. */
export type Call = (inputs: readonly (Tensor | null)[], attrs: Attributes) => Tensor;

/** What is expected of an op, or of a function that is composed of ops. */
export interface Expectations {
  /**
   * The op in float64. `fixed` are the inputs as they were before a central difference moved one: what a
   * stop-gradient sees.
   */
  readonly reference: (inputs: readonly Value[], attrs: Attributes, fixed: readonly Value[]) => RefTensor;
  /** The same with every term positive, for bounds by Σ|terms|. Default: the reference of absolute inputs. */
  readonly magnitude?: (inputs: readonly Value[], attrs: Attributes) => RefTensor;
  /** What central differences cannot see, applied to the gradient of one input. */
  readonly correct?: (gradient: RefTensor, index: number, attrs: Attributes) => RefTensor;
  readonly cases: readonly Case[];
  readonly forward: Bound;
  readonly backward: Bound;
  readonly refuses?: readonly Refusal[];
  /** The op has kernels for GPUs and others for software adapters: both run. */
  readonly variants?: boolean;
  /** One kernel gives several gradients: asking for fewer of them saves no dispatch. */
  readonly fused?: boolean;

  // What follows is for rows whose shape classes cannot be derived, or need help (see classes.ts).

  /** Inputs and attributes for a main input of this shape; null where there are none. Default: derived. */
  readonly make?: (shape: readonly number[], seed: number) => Pick<Case, "inputs" | "attrs"> | null;
  /** Classes that are left out, with the reason in a comment. */
  readonly without?: readonly ShapeClass[];
  /** Elements that one workgroup takes in the forward kernel: the row is also run with more than 65,535 of them. */
  readonly workgroup?: "row" | 64 | 256;
  /** Inputs cannot be f16 or bf16, or only values are compared; with the reason in a comment. */
  readonly halves?: false | "forward";
  /** Dimensions of the main input that are constants of a kernel: other lengths of them compile. */
  readonly constants?: readonly number[];
}

export interface Row extends Expectations {
  readonly op: AnyOp;
  /** The public function of the op's name. Default: `fn(...inputs, attrs)`. */
  readonly call?: Call;
}

/** A public function that is composed of ops. */
export interface ComposedRow extends Expectations {
  readonly name: string;
  readonly call: Call;
  /** The call casts its inputs, which is recorded even where the function then refuses. */
  readonly casts?: true;
}

/** Kinds of shapes that every op is tried with. */
export type ShapeClass =
  | "scalar"
  | "vector"
  | "empty"
  | "empty rows"
  | "one"
  | "primes"
  | "fours"
  | "long rows"
  | "many rows"
  | "rank 6"
  | "stretched"
  | "1e4"
  | "1e30"
  | "grid";

/** Attributes by name, as the references read them. */
export type Attributes = Readonly<Record<string, unknown>>;

/** Forgets the types of an op's inputs, which the table finds out from its cases. */
export function row<I extends Inputs, A, S extends Saved>(op: Op<I, A, S>, rest: Omit<Row, "op">): Row {
  return { op: op as unknown as AnyOp, ...rest };
}

export function isFloat(value: Value | undefined): value is RefTensor {
  return value?.data instanceof Float64Array;
}

/** Input `i`, which the case is known to hold as floats. */
export function floats(inputs: readonly Value[], i: number): RefTensor {
  const value = inputs[i];
  if (!isFloat(value)) throw new Error(`table: input ${i} holds no floats`);
  return value;
}

export function integers(inputs: readonly Value[], i: number): RefIndices {
  const value = inputs[i];
  if (!(value?.data instanceof Int32Array)) throw new Error(`table: input ${i} holds no integers`);
  return { shape: value.shape, data: value.data };
}

/** A tensor of a call, which the case is known to hold. */
export function given(tensor: Tensor | null | undefined): Tensor {
  if (!tensor) throw new Error("table: an input that is absent");
  return tensor;
}

/** Normal numbers with the precision of f32, the same for the same seed. */
export function normal(shape: readonly number[], seed: number, { mean = 0, std = 1 } = {}): RefTensor {
  const next = generator(seed);
  return ref(
    shape,
    Array.from({ length: sizeOf(shape) }, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - next()));
      return Math.fround(mean + std * radius * Math.cos(2 * Math.PI * next()));
    }),
  );
}

/** Numbers of low..high with the precision of f32. */
export function uniform(shape: readonly number[], seed: number, low: number, high: number): RefTensor {
  const next = generator(seed);
  return ref(
    shape,
    Array.from({ length: sizeOf(shape) }, () => Math.fround(low + (high - low) * next())),
  );
}

export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

/** Numbers of 0..1 by mulberry32. */
export function generator(seed: number): () => number {
  let state = (seed * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
