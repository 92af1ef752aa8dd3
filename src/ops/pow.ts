import { broadcastShapes } from "../array/index.ts";
import { type BinaryOp, combine, kernels, multiply, type Pair, type PairSaved } from "./binary.ts";
import { defineOp } from "./define-op.ts";
import { sumTo } from "./reduce.ts";

const POW = kernels("keep_nan(b, keep_nan(a, power(a, b)))");
const BASE = kernels("select(b * power(a, b - 1.0), T(0.0), b == T(0.0))");
const EXPONENT = kernels("select(power(a, b) * log_of(a), T(0.0), (a == T(0.0)) & (b >= T(0.0)))");

/**
 * a^b, broadcast, as ± 2^(b log2 |a|): within (3 + 2 |b log a|) ULP. Of a negative a: NaN where b has a fraction, negative
 * where b is odd. a^0 is 1. da = b a^(b - 1) dy, db = a^b log(a) dy (0 at a = 0 with b >= 0). Saves a and b.
 */
export const pow: BinaryOp = defineOp<Pair, object, PairSaved>({
  name: "pow",
  shape: ([a, b]) => broadcastShapes("pow", a, b),
  forward: (gpu, [a, b], _attrs, needs, shape) => ({
    output: combine(gpu, POW, a, b, shape),
    saved: { a: needs.any ? a : null, b: needs.any ? b : null, shapeA: a.shape, shapeB: b.shape },
  }),
  backward(gpu, dy, { a, b, shapeA, shapeB }, _attrs, [needsA, needsB]) {
    if (!a || !b) return [null, null];
    const slope = (k: typeof BASE) => multiply(gpu, dy, combine(gpu, k, a, b, dy.shape));
    return [
      needsA ? sumTo(gpu, slope(BASE), shapeA) : null,
      needsB ? sumTo(gpu, slope(EXPONENT), shapeB) : null,
    ];
  },
});
