import { broadcastShapes, type GpuArray, type Shape } from "../array/index.ts";
import {
  type BinaryOp,
  combine,
  kernels,
  multiply,
  type Pair,
  type PairSaved,
  pairType,
  typedKernels,
} from "./binary.ts";
import { defineOp } from "./define-op.ts";
import { sumTo } from "./reduce.ts";

/** The larger or smaller of two: WGSL's own for whole numbers, and with NaN kept for floats. */
function choice(name: "maximum" | "minimum", builtin: "max" | "min", wins: ">" | "<"): BinaryOp {
  const values = typedKernels(`keep_nan(b, keep_nan(a, ${builtin}(a, b)))`, `${builtin}(a, b)`);
  // Of the first operand; of the second with both exchanged.
  const share = kernels(`select(select(T(0.0), T(0.5), a == b), T(1.0), a ${wins} b)`);
  return defineOp<Pair, object, PairSaved>({
    name,
    dtypes: "any",
    result: (types) => pairType(name, types),
    shape: ([a, b]) => broadcastShapes(name, a, b),
    forward: (gpu, [a, b], _attrs, needs, shape) => ({
      output: combine(gpu, values, a, b, shape),
      saved: { a: needs.any ? a : null, b: needs.any ? b : null, shapeA: a.shape, shapeB: b.shape },
    }),
    backward(gpu, dy, { a, b, shapeA, shapeB }, _attrs, [needsA, needsB]) {
      if (!a || !b) return [null, null];
      const part = (own: GpuArray, other: GpuArray, shape: Shape): GpuArray =>
        sumTo(gpu, multiply(gpu, dy, combine(gpu, share, own, other, dy.shape)), shape);
      return [needsA ? part(a, b, shapeA) : null, needsB ? part(b, a, shapeB) : null];
    },
  });
}

/**
 * The larger of a and b, broadcast; NaN where either is. The gradient goes to the larger one, and half to each where
 * they are equal. Saves a and b.
 */
export const maximum = choice("maximum", "max", ">");
/** The smaller of a and b, like maximum. */
export const minimum = choice("minimum", "min", "<");
