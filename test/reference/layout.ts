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
