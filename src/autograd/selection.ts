import {
  bfloat16ToFloat32,
  type DType,
  float32ToBfloat16,
  halfToFloat32,
  roundToHalf,
} from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Comparisons, logic, and choices between tensors. Masks are bool, and have no gradient. */

/** A number as an element of `dtype` holds it. */
function roundedTo(dtype: DType, value: number): number {
  const one = Float32Array.of(value);
  if (dtype === "f16") return halfToFloat32(roundToHalf(one))[0] as number;
  if (dtype === "bf16") return bfloat16ToFloat32(float32ToBfloat16(one))[0] as number;
  return value;
}

type Comparison = (a: Tensor, b: Tensor | number) => Tensor;

function comparison(op: ops.CompareOp): Comparison {
  return (a, b) =>
    typeof b === "number" ? apply(op, [a, null], { number: roundedTo(a.dtype, b) }) : apply(op, [a, b], {});
}

/** Whether a = b, broadcast, exactly; b may be a number, which is rounded to a's type. NaN equals nothing. */
export const eq: Comparison = comparison(ops.eq);
export const ne: Comparison = comparison(ops.ne);
export const lt: Comparison = comparison(ops.lt);
export const le: Comparison = comparison(ops.le);
export const gt: Comparison = comparison(ops.gt);
export const ge: Comparison = comparison(ops.ge);

/** Whether each element is NaN, infinite, or neither: by its bits. */
const notANumber = (x: Tensor): Tensor => apply(ops.isNaN, [x], {});
const infinite = (x: Tensor): Tensor => apply(ops.isInf, [x], {});
const finite = (x: Tensor): Tensor => apply(ops.isFinite, [x], {});

export { finite as isFinite, infinite as isInf, notANumber as isNaN };

/** Whether x is 0 (or false). */
export const logicalNot = (x: Tensor): Tensor => eq(x, 0);

function expectBool(op: string, operands: readonly Tensor[]): void {
  for (const [i, { dtype }] of operands.entries())
    if (dtype !== "bool")
      throw new ShapeError(`${op}: input ${i} is ${dtype}, expected bool; cast it with to("bool")`);
}

/** Whether both of two bools hold, broadcast. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  expectBool("logicalAnd", [a, b]);
  return apply(ops.where, [a, b, null], { b: 0 });
}

/** Whether at least one of two bools holds, broadcast. */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  expectBool("logicalOr", [a, b]);
  return apply(ops.where, [a, null, b], { a: 1 });
}

/** a where `cond` (bool) holds, else b, all three broadcast; a or b may be numbers. */
export function where(cond: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  const tensorOf = (x: Tensor | number): Tensor | null => (typeof x === "number" ? null : x);
  const numberOf = (x: Tensor | number): number | undefined => (typeof x === "number" ? x : undefined);
  return apply(ops.where, [cond, tensorOf(a), tensorOf(b)], { a: numberOf(a), b: numberOf(b) });
}

/** `value` where `mask` (bool) holds, else x, broadcast. */
export const maskedFill = (x: Tensor, mask: Tensor, value: number): Tensor => where(mask, value, x);

/** The larger of a and b, broadcast. NaN where either is; half the gradient to each where they are equal. */
export const maximum = (a: Tensor, b: Tensor): Tensor => apply(ops.maximum, [a, b], {});
/** The smaller of a and b, like maximum. */
export const minimum = (a: Tensor, b: Tensor): Tensor => apply(ops.minimum, [a, b], {});
