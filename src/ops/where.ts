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
import { defineOp } from "./define-op.ts";
import { areInOneChunk, runFlat, threads } from "./ranges.ts";
import { sumTo } from "./reduce.ts";
import { commonType, wordOf } from "./words.ts";

/** Numbers in the place of a or b. */
export interface WhereAttrs {
  readonly a?: number | undefined;
  readonly b?: number | undefined;
}

type WhereInputs = readonly [cond: GpuArray, a: GpuArray | null, b: GpuArray | null];

interface WhereSaved {
  readonly [name: string]: unknown;
  readonly cond: GpuArray;
  readonly shapeA: Shape;
  readonly shapeB: Shape;
}

const flatKernel: KernelSpec = { shader: "where", entry: "flat" };
const generalKernel: KernelSpec = { shader: "where", entry: "general" };

/** An operand: an array, or one word for every element. */
type Operand = GpuArray | number;

/** Writes y: `a` where cond is not 0, else `b`. */
function pick(gpu: Gpu, cond: GpuArray, [first, second]: readonly [Operand, Operand], y: GpuArray): GpuArray {
  const { shape } = y;
  if (y.size === 0) return y;
  const a = typeof first === "number" ? null : first;
  const b = typeof second === "number" ? null : second;
  const words = { ...wordParams("a", first), ...wordParams("b", second) };
  if ([cond, a, b].every((x) => !x || sameShape(x.shape, shape))) {
    const params = { ...words, rank: 0, shape: [], strides_cond: [], strides_a: [], strides_b: [] };
    runFlat(gpu, flatKernel, { y_fours: y, cond_fours: cond, a_fours: a, b_fours: b }, params);
    return y;
  }
  if (areInOneChunk({ cond, a, b, y })) {
    const strides = (x: GpuArray | null) => (x ? broadcastStrides(x.shape, x.strides, shape) : []);
    const layout = { strides_cond: strides(cond), strides_a: strides(a), strides_b: strides(b) };
    const params = { ...words, n: y.size, rank: shape.length, shape, ...layout };
    gpu.run(generalKernel, { cond, a, b, y }, params, threads(y.size));
    return y;
  }
  // Strides do not reach across chunks: what is stretched is written out.
  const wide = (x: Operand): Operand => (typeof x === "number" ? x : stretched(gpu, x, shape));
  return pick(gpu, stretched(gpu, cond, shape), [wide(first), wide(second)], y);
}

function wordParams(name: "a" | "b", operand: Operand): Record<string, number> {
  const isWord = typeof operand === "number";
  return { [`has_${name}`]: isWord ? 0 : 1, [`${name}_word`]: isWord ? operand : 0 };
}

function operandType([cond, a = null, b = null]: readonly (DType | null)[], attrs: WhereAttrs): DType {
  if (cond !== "bool" && cond !== "i32" && cond !== "u32")
    throw new ShapeError(`where: input 0 is ${cond}, expected bool; compare it, or cast it with to("bool")`);
  const type = commonType("where", [a, b]);
  for (const number of [attrs.a, attrs.b]) if (number !== undefined) wordOf("where", type, number);
  return type;
}

/**
 * a where cond holds, else b; all three broadcast, and a or b may be a number. cond bool (i32 and u32: not 0); a and b of
 * one type, any. Bits are moved: what is not picked does not matter, NaN and Infinity neither.
 * da = dy where cond holds, else 0, and db the other way round. Saves cond.
 */
export const where = defineOp<WhereInputs, WhereAttrs, WhereSaved>({
  name: "where",
  dtypes: "any",
  result: operandType,
  shape([cond, a, b]) {
    const other = a && b ? broadcastShapes("where", a, b) : (a ?? b ?? []);
    return broadcastShapes("where", cond, other);
  },
  forward(gpu, [cond, a, b], attrs, _needs, shape) {
    const dtype = operandType([cond.dtype, a?.dtype ?? null, b?.dtype ?? null], attrs);
    const operands = [
      a ?? wordOf("where", dtype, attrs.a ?? 0),
      b ?? wordOf("where", dtype, attrs.b ?? 0),
    ] as const;
    const output = pick(gpu, cond, operands, gpu.empty(shape, dtype));
    return { output, saved: { cond, shapeA: a?.shape ?? [], shapeB: b?.shape ?? [] } };
  },
  backward(gpu, dy, { cond, shapeA, shapeB }, _attrs, [, needsA, needsB]) {
    const part = (operands: readonly [Operand, Operand], shape: Shape): GpuArray =>
      sumTo(gpu, pick(gpu, cond, operands, gpu.empty(dy.shape)), shape);
    return [null, needsA ? part([dy, 0], shapeA) : null, needsB ? part([0, dy], shapeB) : null];
  },
});
