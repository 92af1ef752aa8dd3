import { ShapeError } from "../gpu/index.ts";

export type Shape = readonly number[];

export const MAX_RANK = 6;

/** Number of elements: the product of the sizes, 1 for a scalar. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let i = 0; i < shape.length; i++) size *= shape[i] as number;
  return size;
}

/** Row-major strides, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i] as number;
  }
  return strides;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

export function showShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** The last size of a shape; 1 for a scalar. */
export function lastOf(shape: Shape): number {
  return shape[shape.length - 1] ?? 1;
}

/** Rows and columns when everything but the last dimension is a row. */
export function rowsOf(shape: Shape): { rows: number; columns: number } {
  const columns = lastOf(shape);
  return { rows: columns === 0 ? 0 : sizeOf(shape) / columns, columns };
}

/** The shape that both operands stretch to, by NumPy's rule. */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const result = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new ShapeError(`${op}: ${showShape(a)} and ${showShape(b)} do not broadcast (${x} vs ${y})`);
    }
    result[i] = x === 1 ? y : x;
  }
  return result;
}

/** Strides of `from` stretched to `to`: 0 along stretched dimensions. */
export function broadcastStrides(from: Shape, strides: readonly number[], to: Shape): number[] {
  const lead = to.length - from.length;
  return to.map((n, i) => {
    const j = i - lead;
    return j < 0 || (from[j] === 1 && n !== 1) ? 0 : (strides[j] as number);
  });
}

/** A dimension counted from the front, whatever sign it was given with. */
export function normaliseAxis(op: string, axis: number, rank: number): number {
  const i = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || i < 0 || i >= rank) {
    throw new ShapeError(
      `${op}: dimension ${axis} is not one of a rank-${rank} array (${-rank}..${rank - 1})`,
    );
  }
  return i;
}

/** Checks the shapes of named inputs against what the op expects of them. */
export function expectShape(op: string, actual: Readonly<Record<string, Shape>>, expected: Shape): void {
  for (const [name, shape] of Object.entries(actual)) {
    if (!sameShape(shape, expected)) {
      throw new ShapeError(`${op}: ${name} is ${showShape(shape)}, expected ${showShape(expected)}`);
    }
  }
}
