import {
  broadcastShapes,
  broadcastStrides,
  type Gpu,
  type GpuArray,
  type Shape,
  sameShape,
} from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { defineOp, type Op } from "./define-op.ts";
import { contiguous, threads } from "./kernels.ts";
import { runFlat, runRows } from "./ranges.ts";
import { sumTo } from "./reduce.ts";
import { scale } from "./unary.ts";

type Pair = readonly [GpuArray, GpuArray];
interface PairSaved {
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

function kernels(value: string): Kernels {
  const constants = { value };
  return {
    same: { shader: "binary", entry: "same", constants },
    suffix: { shader: "binary", entry: "suffix", constants },
    general: { shader: "binary", entry: "general", constants, uses: { "lib/vec4": "lib/scalar" } },
  };
}

const ADD = kernels("a + b");
const SUB = kernels("a - b");
const MUL = kernels("a * b");
const DIV = kernels("a / b");

function isSuffix(part: Shape, whole: Shape): boolean {
  return part.length <= whole.length && part.every((n, i) => n === whole[whole.length - part.length + i]);
}

/** y = a ∘ b, stretched to the shape both broadcast to. */
function combine(gpu: Gpu, k: Kernels, a: GpuArray, b: GpuArray, shape: Shape): GpuArray {
  const y = gpu.empty(shape, a.dtype);
  if (y.size === 0) return y;
  if (sameShape(a.shape, shape) && sameShape(b.shape, shape)) {
    runFlat(gpu, k.same, { a, b, y }, { ...FLAT, n_b: 0 });
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
    runFlat(gpu, k.same, arrays, { ...FLAT, n_b: 0 });
  }
  return y;
}

const FLAT = { rank: 0, shape: [], strides_a: [], strides_b: [] };

/** A contiguous array of a shape that `x` broadcasts to: `x` itself where it has that shape. */
function stretched(gpu: Gpu, x: GpuArray, shape: Shape): GpuArray {
  if (sameShape(x.shape, shape)) return x;
  return contiguous(gpu, gpu.view(x, shape, x.offset, broadcastStrides(x.shape, x.strides, shape)));
}

function multiply(gpu: Gpu, a: GpuArray, b: GpuArray): GpuArray {
  return combine(gpu, MUL, a, b, broadcastShapes("mul", a.shape, b.shape));
}

function negate(gpu: Gpu, x: GpuArray): GpuArray {
  return scale.forward(gpu, [x], { a: -1 }, Object.assign([false], { any: false }), x.shape).output;
}

/** a + b, broadcast. */
export const add: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "add",
  shape: ([a, b]) => broadcastShapes("add", a, b),
  forward: (gpu, [a, b], _attrs, _needs, shape) => ({
    output: combine(gpu, ADD, a, b, shape),
    saved: { a: null, b: null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward: (gpu, dy, { shapeA, shapeB }, _attrs, [needsA, needsB]) => [
    needsA ? sumTo(gpu, dy, shapeA) : null,
    needsB ? sumTo(gpu, dy, shapeB) : null,
  ],
});

/** a - b, broadcast. */
export const sub: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "sub",
  shape: ([a, b]) => broadcastShapes("sub", a, b),
  forward: (gpu, [a, b], _attrs, _needs, shape) => ({
    output: combine(gpu, SUB, a, b, shape),
    saved: { a: null, b: null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward: (gpu, dy, { shapeA, shapeB }, _attrs, [needsA, needsB]) => [
    needsA ? sumTo(gpu, dy, shapeA) : null,
    needsB ? negate(gpu, sumTo(gpu, dy, shapeB)) : null,
  ],
});

/** a b, element by element, broadcast. */
export const mul: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "mul",
  shape: ([a, b]) => broadcastShapes("mul", a, b),
  forward: (gpu, [a, b], _attrs, [needsA, needsB], shape) => ({
    output: combine(gpu, MUL, a, b, shape),
    saved: { a: needsB ? a : null, b: needsA ? b : null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward: (gpu, dy, { a, b, shapeA, shapeB }) => [
    b && sumTo(gpu, multiply(gpu, dy, b), shapeA),
    a && sumTo(gpu, multiply(gpu, dy, a), shapeB),
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
    const da = needsA ? sumTo(gpu, share, shapeA) : null;
    if (!needsB || !a) return [da, null];
    // d(a/b)/db = -a / b²
    const ratio = combine(gpu, DIV, a, b, broadcastShapes("div", a.shape, b.shape));
    return [da, negate(gpu, sumTo(gpu, multiply(gpu, share, ratio), shapeB))];
  },
});
