import { around, at, axisOf, indexMap, lengthOf, pick, type RefTensor, ref, stridesOf } from "./tensor.ts";

/** Dimension d of the result is dimension order[d] of x. */
export function permute(x: RefTensor, order: readonly number[]): RefTensor {
  const axes = order.map((dim) => axisOf(x.shape.length, dim));
  if (new Set(axes).size !== x.shape.length)
    throw new Error(`permute: [${order.join(", ")}] of [${x.shape.join(", ")}]`);
  const shape = axes.map((axis) => at(x.shape, axis));
  const strides = stridesOf(x.shape);
  const map = indexMap(
    shape,
    shape,
    axes.map((axis) => at(strides, axis)),
  );
  return { shape, data: pick(x.data, map) };
}

/** The same elements in another shape; one length may be -1. */
export function reshape(x: RefTensor, shape: readonly number[]): RefTensor {
  let known = 1;
  for (const length of shape) if (length !== -1) known *= length;
  return ref(
    shape.map((length) => (length === -1 ? x.data.length / known : length)),
    x.data,
  );
}

/** Elements begin..end (excluded) of every dimension; dimensions beyond `ranges` are taken whole. */
export function slice(x: RefTensor, ranges: readonly (readonly [begin: number, end: number])[]): RefTensor {
  const whole = x.shape.map((length, d) => ranges[d] ?? ([0, length] as const));
  const shape = whole.map(([begin, end]) => end - begin);
  const strides = stridesOf(x.shape);
  let start = 0;
  for (const [d, [begin, end]] of whole.entries()) {
    if (begin < 0 || end < begin || end > at(x.shape, d)) {
      throw new Error(`slice: ${begin}..${end} of dimension ${d} of [${x.shape.join(", ")}]`);
    }
    start += begin * at(strides, d);
  }
  return { shape, data: pick(x.data, indexMap(shape, shape, strides), start) };
}

/** Joins tensors along `dim`; the other lengths are equal. */
export function concat(tensors: readonly RefTensor[], { dim = 0 }: { dim?: number } = {}): RefTensor {
  const first = tensors[0];
  if (!first) throw new Error("concat: no tensors");
  const axis = axisOf(first.shape.length, dim);
  let length = 0;
  for (const { shape } of tensors) length += at(shape, axis);
  const out = ref(first.shape.map((own, d) => (d === axis ? length : own)));
  const { outer, inner } = around(out.shape, axis);
  let before = 0;
  for (const { shape, data } of tensors) {
    const width = at(shape, axis) * inner;
    for (let o = 0; o < outer; o++) {
      out.data.set(data.subarray(o * width, (o + 1) * width), o * length * inner + before);
    }
    before += width;
  }
  return out;
}

/** Cuts x along `dim` into pieces of `size` (the last may be shorter), or of the given sizes. */
export function split(
  x: RefTensor,
  size: number | readonly number[],
  { dim = 0 }: { dim?: number } = {},
): RefTensor[] {
  const axis = axisOf(x.shape.length, dim);
  const length = lengthOf(x.shape, axis);
  const pieces: RefTensor[] = [];
  for (let begin = 0; begin < length; ) {
    const wanted = typeof size === "number" ? size : at(size, pieces.length);
    const end = Math.min(begin + wanted, length);
    pieces.push(
      slice(
        x,
        x.shape.map((own, d) => (d === axis ? [begin, end] : [0, own])),
      ),
    );
    begin = end;
  }
  return pieces;
}

/** Joins tensors of one shape along a new dimension. */
export function stack(tensors: readonly RefTensor[], { dim = 0 }: { dim?: number } = {}): RefTensor {
  const widened = tensors.map(({ shape, data }) => {
    const axis = axisOf(shape.length + 1, dim);
    return ref([...shape.slice(0, axis), 1, ...shape.slice(axis)], data);
  });
  return concat(widened, { dim });
}

/** x inside a border of `value`: [before, after] elements of each dimension. */
export function pad(x: RefTensor, widths: readonly (readonly [number, number])[], value = 0): RefTensor {
  const out = ref(
    x.shape.map((length, d) => at(widths[d] ?? [], 0) + length + at(widths[d] ?? [], 1)),
    value,
  );
  const steps = stridesOf(out.shape);
  const start = widths.reduce((sum, [before], d) => sum + before * at(steps, d), 0);
  for (const [i, to] of indexMap(x.shape, x.shape, steps).entries()) {
    // A dimension of one element has no step in the map; its place is in the start.
    out.data[start + to] = at(x.data, i);
  }
  return out;
}

/** x with the order of some dimensions reversed. */
export function flip(x: RefTensor, dims: readonly number[]): RefTensor {
  let out = x;
  for (const dim of dims) {
    const { outer, length, inner } = around(out.shape, dim);
    const turned = ref(out.shape);
    for (let o = 0; o < outer; o++) {
      for (let l = 0; l < length; l++) {
        const from = (o * length + length - 1 - l) * inner;
        turned.data.set(out.data.subarray(from, from + inner), (o * length + l) * inner);
      }
    }
    out = turned;
  }
  return out;
}

/** x repeated along each dimension; repeats and dimensions are aligned at the end. */
export function tile(x: RefTensor, repeats: readonly number[]): RefTensor {
  const rank = Math.max(x.shape.length, repeats.length);
  let out = reshape(x, [...new Array<number>(rank - x.shape.length).fill(1), ...x.shape]);
  for (const [i, n] of repeats.entries()) {
    const dim = rank - repeats.length + i;
    const empty = ref(out.shape.map((length, d) => (d === dim ? 0 : length)));
    out = concat([empty, ...new Array<RefTensor>(n).fill(out)], { dim });
  }
  return out;
}
