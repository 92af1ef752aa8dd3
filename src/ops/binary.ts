import {
  broadcastShapes,
  broadcastStrides,
  type DType,
  type Gpu,
  type GpuArray,
  type Shape,
  sameShape,
} from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { stretched } from "./copy.ts";
import { defineOp, type Op } from "./define-op.ts";
import { runFlat, runRows, threads } from "./ranges.ts";
import { sumTo } from "./reduce.ts";
import { scale } from "./unary.ts";
import { commonType } from "./words.ts";

export type Pair = readonly [GpuArray, GpuArray];
export interface PairSaved {
  readonly [name: string]: unknown;
  readonly a: GpuArray | null;
  readonly b: GpuArray | null;
  readonly shapeA: Shape;
  readonly shapeB: Shape;
}
export type BinaryOp = Op<Pair, object, PairSaved>;

interface Kernels {
  readonly same: KernelSpec;
  readonly suffix: KernelSpec;
  readonly general: KernelSpec;
}

/** Kernels of a function of two numbers, from its WGSL in terms of a and b. Default: of floats. */
export function kernels(value: string, type?: "i32" | "u32"): Kernels {
  const four = type ? { value, E: type === "i32" ? "vec4i" : "vec4u" } : { value };
  const one = type ? { value, E: type } : { value };
  return {
    same: { shader: "binary", entry: "same", constants: four },
    suffix: { shader: "binary", entry: "suffix", constants: four },
    general: { shader: "binary", entry: "general", constants: one, uses: { "lib/vec4": "lib/scalar" } },
  };
}

interface Typed {
  readonly f32: Kernels;
  readonly i32?: Kernels;
  readonly u32?: Kernels;
}

/** The kernels of one function for each type. */
export function typedKernels(float: string, whole?: string): Typed {
  const f32 = kernels(float);
  return whole === undefined ? { f32 } : { f32, i32: kernels(whole, "i32"), u32: kernels(whole, "u32") };
}

/** The result's type, for the types that there are kernels for. */
export function pairType(op: string, types: readonly (DType | null)[]): DType {
  const type = commonType(op, types);
  if (type === "bool")
    throw new ShapeError(`${op}: input 0 is bool, expected f32, i32 or u32; cast it with to()`);
  return type;
}

const ADD = typedKernels("a + b", "a + b");
const SUB = typedKernels("a - b", "a - b");
const MUL = typedKernels("a * b", "a * b");
const DIV = kernels("a / b");

function isSuffix(part: Shape, whole: Shape): boolean {
  return part.length <= whole.length && part.every((n, i) => n === whole[whole.length - part.length + i]);
}

/** y = a ∘ b, stretched to the shape both broadcast to. */
export function combine(gpu: Gpu, given: Kernels | Typed, a: GpuArray, b: GpuArray, shape: Shape): GpuArray {
  const y = gpu.empty(shape, a.dtype);
  const k = "f32" in given ? kernelsFor(given, a.dtype) : given;
  if (y.size === 0) return y;
  if (sameShape(a.shape, shape) && sameShape(b.shape, shape)) {
    runFlat(gpu, k.same, { a, b, y }, { ...FLAT, n_b: 0 }, undefined, 4);
  } else if (sameShape(a.shape, shape) && isSuffix(b.shape, shape) && b.size % 4 === 0 && b.isInOneChunk) {
    const groups = b.size / 4;
    runRows(gpu, k.suffix, {
      rows: y.size / b.size,
      split: { a, y },
      whole: { b },
      params: (_first, rows) => ({ ...FLAT, n: rows * groups, n_b: groups }),
      count: null,
      grid: (rows) => threads(rows * groups),
    });
  } else if (a.isInOneChunk && b.isInOneChunk && y.isInOneChunk) {
    const strides = {
      strides_a: broadcastStrides(a.shape, a.strides, shape),
      strides_b: broadcastStrides(b.shape, b.strides, shape),
    };
    const params = { n: y.size, n_b: 0, rank: shape.length, shape, ...strides };
    gpu.run(k.general, { a, b, y }, params, threads(y.size));
  } else {
    // Strides do not reach across chunks: what is stretched is written out.
    const arrays = { a: stretched(gpu, a, shape), b: stretched(gpu, b, shape), y };
    runFlat(gpu, k.same, arrays, { ...FLAT, n_b: 0 }, undefined, 4);
  }
  return y;
}

const FLAT = { rank: 0, shape: [], strides_a: [], strides_b: [] };

/** Halves are handed as f32; types without kernels were refused. */
function kernelsFor(typed: Typed, dtype: DType): Kernels {
  return (dtype === "i32" || dtype === "u32" ? typed[dtype] : null) ?? typed.f32;
}

export function multiply(gpu: Gpu, a: GpuArray, b: GpuArray): GpuArray {
  return combine(gpu, MUL, a, b, broadcastShapes("mul", a.shape, b.shape));
}

function negate(gpu: Gpu, x: GpuArray): GpuArray {
  return scale.forward(gpu, [x], { a: -1 }, Object.assign([false], { any: false }), x.shape).output;
}

/** a + b, broadcast. Whole numbers wrap around. */
export const add: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "add",
  dtypes: "any",
  result: (types) => pairType("add", types),
  shape: ([a, b]) => broadcastShapes("add", a, b),
  forward: (gpu, [a, b], _attrs, _needs, shape) => ({
    output: combine(gpu, ADD, a, b, shape),
    saved: { a: null, b: null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward: (gpu, dy, { shapeA, shapeB }, _attrs, [needsA, needsB]) => [
    needsA ? sumTo(gpu, dy, shapeA, 0) : null,
    needsB ? sumTo(gpu, dy, shapeB, 1) : null,
  ],
});

/** a - b, broadcast. Whole numbers wrap around. */
export const sub: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "sub",
  dtypes: "any",
  result: (types) => pairType("sub", types),
  shape: ([a, b]) => broadcastShapes("sub", a, b),
  forward: (gpu, [a, b], _attrs, _needs, shape) => ({
    output: combine(gpu, SUB, a, b, shape),
    saved: { a: null, b: null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward: (gpu, dy, { shapeA, shapeB }, _attrs, [needsA, needsB]) => [
    needsA ? sumTo(gpu, dy, shapeA, 0) : null,
    needsB ? negate(gpu, sumTo(gpu, dy, shapeB)) : null,
  ],
});

/** a b, element by element, broadcast. Whole numbers wrap around. */
export const mul: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "mul",
  dtypes: "any",
  result: (types) => pairType("mul", types),
  shape: ([a, b]) => broadcastShapes("mul", a, b),
  forward: (gpu, [a, b], _attrs, [needsA, needsB], shape) => ({
    output: combine(gpu, MUL, a, b, shape),
    saved: { a: needsB ? a : null, b: needsA ? b : null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward: (gpu, dy, { a, b, shapeA, shapeB }, _attrs, [needsA, needsB]) => [
    b && needsA ? sumTo(gpu, multiply(gpu, dy, b), shapeA, 0) : null,
    a && needsB ? sumTo(gpu, multiply(gpu, dy, a), shapeB, 1) : null,
  ],
});

/** a / b, element by element, broadcast. */
export const div: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "div",
  shape: ([a, b]) => broadcastShapes("div", a, b),
  forward: (gpu, [a, b], _attrs, [, needsB], shape) => ({
    output: combine(gpu, DIV, a, b, shape),
    saved: { a: needsB ? a : null, b, shapeA: a.shape, shapeB: b.shape },
  }),
  backward(gpu, dy, { a, b, shapeA, shapeB }, _attrs, [needsA, needsB]) {
    if (!b) return [null, null];
    const share = combine(gpu, DIV, dy, b, dy.shape); // dy / b
    const da = needsA ? sumTo(gpu, share, shapeA, 0) : null;
    if (!needsB || !a) return [da, null];
    // d(a/b)/db = -a / b²
    const ratio = combine(gpu, DIV, a, b, broadcastShapes("div", a.shape, b.shape));
    return [da, negate(gpu, sumTo(gpu, multiply(gpu, share, ratio), shapeB))];
  },
});
