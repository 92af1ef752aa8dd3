// The references: plain float64 forward functions, written for reading and not for speed. They share no code
// with `src/`. Gradients come from `numericalGradient`.

/** A row-major float64 array with a shape; `[]` is a scalar. */
export interface RefTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Whole numbers with a shape: token ids, labels, positions. */
export interface RefIndices {
  readonly shape: readonly number[];
  readonly data: Int32Array;
}

/** `ref([2, 3], values)`; without values, zeros. Throws where their number differs from the shape's. */
export function ref(shape: readonly number[], values?: ArrayLike<number> | number): RefTensor {
  const size = sizeOf(shape);
  if (values === undefined) return { shape, data: new Float64Array(size) };
  if (typeof values === "number") return { shape, data: new Float64Array(size).fill(values) };
  checkCount(shape, size, values.length);
  return { shape, data: new Float64Array(values) };
}

export function indices(shape: readonly number[], values: ArrayLike<number>): RefIndices {
  checkCount(shape, sizeOf(shape), values.length);
  return { shape, data: new Int32Array(values) };
}

function checkCount(shape: readonly number[], size: number, count: number): void {
  if (size !== count) throw new Error(`ref: shape [${shape.join(", ")}] takes ${size} values, got ${count}`);
}

export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const length of shape) size *= length;
  return size;
}

/** Element `i` of an array that is known to have it; NaN would show a wrong index in every result. */
export function at(data: ArrayLike<number>, i: number): number {
  return data[i] ?? Number.NaN;
}

export function total(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

/** The largest value; NaN if one is NaN, -Infinity if there are none. */
export function largest(values: Float64Array): number {
  let top = -Infinity;
  for (const value of values) top = Math.max(top, value);
  return top;
}

/** Dimension `dim` of `rank`, counted from the end if negative. */
export function axisOf(rank: number, dim: number): number {
  const axis = dim < 0 ? dim + rank : dim;
  if (!Number.isInteger(axis) || axis < 0 || axis >= rank) {
    throw new Error(`dim ${dim} of a tensor with ${rank} dimensions`);
  }
  return axis;
}

/** Length of dimension `dim`, counted from the end if negative. */
export function lengthOf(shape: readonly number[], dim: number): number {
  return at(shape, axisOf(shape.length, dim));
}

/** Steps in the data from one element to the next, per dimension. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    strides[d] = step;
    step *= at(shape, d);
  }
  return strides;
}

/** The shape two shapes broadcast to, or an error with both. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let d = 0; d < rank; d++) {
    const fromA = a[d - rank + a.length] ?? 1;
    const fromB = b[d - rank + b.length] ?? 1;
    if (fromA !== fromB && fromA !== 1 && fromB !== 1) {
      throw new Error(`broadcast: [${a.join(", ")}] and [${b.join(", ")}] differ`);
    }
    out[d] = fromA === 1 ? fromB : fromA;
  }
  return out;
}

/**
 * For each element of `shape`, in order, the index of its element in a tensor of shape `from`, walked with
 * `strides` (by default its own); dimensions of `from` align at the end, and those of length 1 repeat.
 */
export function indexMap(
  shape: readonly number[],
  from: readonly number[],
  strides: readonly number[] = stridesOf(from),
): Int32Array {
  const lead = shape.length - from.length;
  const steps = shape.map((_, d) => (d < lead || at(from, d - lead) === 1 ? 0 : at(strides, d - lead)));
  const out = new Int32Array(sizeOf(shape));
  const position = new Array<number>(shape.length).fill(0);
  let index = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = index;
    for (let d = shape.length - 1; d >= 0; d--) {
      const next = at(position, d) + 1;
      index += at(steps, d);
      if (next < at(shape, d)) {
        position[d] = next;
        break;
      }
      index -= next * at(steps, d);
      position[d] = 0;
    }
  }
  return out;
}

/** `x` repeated to `shape`. */
export function expand(x: RefTensor, shape: readonly number[]): RefTensor {
  const whole = broadcastShape(x.shape, shape);
  if (whole.length !== shape.length || whole.some((length, d) => length !== shape[d])) {
    throw new Error(`expand: [${x.shape.join(", ")}] does not broadcast to [${shape.join(", ")}]`);
  }
  return { shape, data: pick(x.data, indexMap(shape, x.shape)) };
}

/** The elements at `map`, shifted by `start`. */
export function pick(data: Float64Array, map: Int32Array, start = 0): Float64Array {
  const out = new Float64Array(map.length);
  for (let i = 0; i < out.length; i++) out[i] = data[start + (map[i] ?? Number.NaN)] ?? Number.NaN;
  return out;
}

/** A tensor seen as [outer, length, inner] around one dimension. */
export function around(
  shape: readonly number[],
  dim: number,
): { outer: number; length: number; inner: number } {
  const axis = axisOf(shape.length, dim);
  return {
    outer: sizeOf(shape.slice(0, axis)),
    length: at(shape, axis),
    inner: sizeOf(shape.slice(axis + 1)),
  };
}
