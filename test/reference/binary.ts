import { at, broadcastShape, indexMap, type RefTensor, ref } from "./tensor.ts";

/** `f` on every pair of elements, shapes broadcast. */
export function zip(a: RefTensor, b: RefTensor, f: (a: number, b: number) => number): RefTensor {
  if (String(a.shape) === String(b.shape))
    return { shape: a.shape, data: a.data.map((x, i) => f(x, b.data[i] ?? Number.NaN)) };
  const shape = broadcastShape(a.shape, b.shape);
  const fromA = indexMap(shape, a.shape);
  const fromB = indexMap(shape, b.shape);
  const data = new Float64Array(fromA.length);
  for (let i = 0; i < data.length; i++) {
    data[i] = f(a.data[fromA[i] ?? -1] ?? Number.NaN, b.data[fromB[i] ?? -1] ?? Number.NaN);
  }
  return { shape, data };
}

type Binary = (a: RefTensor, b: RefTensor) => RefTensor;

export const add: Binary = (a, b) => zip(a, b, (x, y) => x + y);
export const sub: Binary = (a, b) => zip(a, b, (x, y) => x - y);
export const mul: Binary = (a, b) => zip(a, b, (x, y) => x * y);
export const div: Binary = (a, b) => zip(a, b, (x, y) => x / y);
export const maximum: Binary = (a, b) => zip(a, b, Math.max);
export const minimum: Binary = (a, b) => zip(a, b, Math.min);

export const pow: Binary = (a, b) => zip(a, b, (x, y) => x ** y);

const asked =
  (holds: (x: number, y: number) => boolean): Binary =>
  (a, b) =>
    zip(a, b, (x, y) => (holds(x, y) ? 1 : 0));

/** 1 where the numbers lie so, else 0. */
export const eq: Binary = asked((x, y) => x === y);
export const ne: Binary = asked((x, y) => x !== y);
export const lt: Binary = asked((x, y) => x < y);
export const le: Binary = asked((x, y) => x <= y);
export const gt: Binary = asked((x, y) => x > y);
export const ge: Binary = asked((x, y) => x >= y);

/** a where `cond` is not 0, else b; all three broadcast. */
export function where(cond: RefTensor, a: RefTensor, b: RefTensor): RefTensor {
  const shape = broadcastShape(cond.shape, broadcastShape(a.shape, b.shape));
  const fromA = indexMap(shape, a.shape);
  const fromB = indexMap(shape, b.shape);
  const pick = (i: number, n: number) =>
    at(cond.data, i) !== 0 ? at(a.data, at(fromA, n)) : at(b.data, at(fromB, n));
  return { shape, data: Float64Array.from(indexMap(shape, cond.shape), pick) };
}

/** `value` where `mask` is not 0, else x. */
export function maskedFill(x: RefTensor, mask: RefTensor, value: number): RefTensor {
  return where(mask, ref([], [value]), x);
}

/** x · keep / (1 - p) with the mask of kept elements (1 or 0) given. */
export function dropout(x: RefTensor, keep: RefTensor, { p }: { p: number }): RefTensor {
  return zip(x, keep, (value, kept) => (value * kept) / (1 - p));
}
