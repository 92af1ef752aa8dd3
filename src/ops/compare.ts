import {
  broadcastShapes,
  broadcastStrides,
  type Gpu,
  type GpuArray,
  type Shape,
  sameShape,
} from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { stretched } from "./copy.ts";
import { defineOp, type Op } from "./define-op.ts";
import { areInOneChunk, runFlat, threads } from "./ranges.ts";
import { commonType, KIND, kindOf, wordOf } from "./words.ts";

/** `number`: the second operand where that is no array. It is rounded to the type of the first. */
export interface CompareAttrs {
  readonly number?: number | undefined;
}

type Operands = readonly [GpuArray, GpuArray | null];
export type CompareOp = Op<Operands, CompareAttrs, Record<string, never>>;

const flatKernel: KernelSpec = { shader: "compare", entry: "flat" };
const generalKernel: KernelSpec = { shader: "compare", entry: "general" };

/** The ways in which two numbers may lie, as bits; NEITHER: one of them is NaN. */
const LESS = 1;
const EQUAL = 2;
const GREATER = 4;
const NEITHER = 8;

interface Question {
  readonly a: GpuArray;
  /** null: `word` for every element. */
  readonly b: GpuArray | null;
  readonly word: number;
  readonly kind: number;
  readonly accepts: number;
}

function ask(gpu: Gpu, { a, b, word, kind, accepts }: Question, shape: Shape): GpuArray {
  const y = gpu.empty(shape, "bool");
  if (y.size === 0) return y;
  const numbers = { kind, accepts, has_b: b ? 1 : 0, b_word: word };
  if (sameShape(a.shape, shape) && (!b || sameShape(b.shape, shape))) {
    const params = { ...numbers, rank: 0, shape: [], strides_a: [], strides_b: [] };
    runFlat(gpu, flatKernel, { y_fours: y, a_fours: a, b_fours: b }, params);
  } else if (areInOneChunk({ a, b, y })) {
    const strides_a = broadcastStrides(a.shape, a.strides, shape);
    const strides_b = b ? broadcastStrides(b.shape, b.strides, shape) : [];
    const params = { ...numbers, n: y.size, rank: shape.length, shape, strides_a, strides_b };
    gpu.run(generalKernel, { a, b, y }, params, threads(y.size));
  } else {
    // Strides do not reach across chunks: what is stretched is written out.
    const wide = { a: stretched(gpu, a, shape), b: b && stretched(gpu, b, shape) };
    return ask(gpu, { ...wide, word, kind, accepts }, shape);
  }
  return y;
}

function comparison(name: string, accepts: number): CompareOp {
  return defineOp<Operands, CompareAttrs, Record<string, never>>({
    name,
    dtypes: "any",
    result(types, { number }) {
      const type = commonType(name, types);
      if (number !== undefined) wordOf(name, type, number);
      return "bool";
    },
    shape: ([a, b]) => (b ? broadcastShapes(name, a, b) : a),
    forward(gpu, [a, b], { number = 0 }, _needs, shape) {
      const word = wordOf(name, a.dtype, number);
      return { output: ask(gpu, { a, b, word, kind: kindOf(a), accepts }, shape), saved: {} };
    },
  });
}

/**
 * Whether a and b lie so, element by element, broadcast, as bool. Exact for every type: by bits, so that subnormal
 * numbers keep their order. NaN is unequal to everything, itself too, and neither above nor below anything.
 */
export const eq = comparison("eq", EQUAL);
export const ne = comparison("ne", LESS | GREATER | NEITHER);
export const lt = comparison("lt", LESS);
export const le = comparison("le", LESS | EQUAL);
export const gt = comparison("gt", GREATER);
export const ge = comparison("ge", GREATER | EQUAL);

export type ClassifyOp = Op<readonly [GpuArray], object, Record<string, never>>;

/** Compares |x| with Infinity. */
function classification(name: string, accepts: number): ClassifyOp {
  return defineOp<readonly [GpuArray], object, Record<string, never>>({
    name,
    result: () => "bool",
    shape: ([x]) => x,
    forward(gpu, [x], _attrs, _needs, shape) {
      const word = wordOf(name, "f32", Number.POSITIVE_INFINITY);
      return { output: ask(gpu, { a: x, b: null, word, kind: KIND.magnitude, accepts }, shape), saved: {} };
    },
  });
}

/** What each element is, as bool, by its exponent's bits: no driver's arithmetic is asked. */
const notANumber = classification("isNaN", NEITHER);
const infinite = classification("isInf", EQUAL);
const finite = classification("isFinite", LESS);

export { finite as isFinite, infinite as isInf, notANumber as isNaN };
