import { alongAxis } from "./reduce.ts";
import { at, axisOf, indices, type RefIndices, type RefTensor, ref } from "./tensor.ts";

/** NaN is the largest number, and -0 equals 0. */
function inOrder(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a === b ? 0 : a < b ? -1 : 1;
}

/** The indices along `dim` that sort x; equal elements keep their order, downwards too. */
export function argsort(
  x: RefTensor,
  { dim = -1, descending = false }: { dim?: number; descending?: boolean } = {},
): RefIndices {
  const sign = descending ? -1 : 1;
  const { shape, data } = alongAxis(x, dim, (row) =>
    [...row.keys()].sort((i, j) => sign * inOrder(at(row, i), at(row, j)) || i - j),
  );
  return indices(shape, data);
}

/** Where the k largest (or smallest) elements along `dim` lie, in order. */
export function topK(
  x: RefTensor,
  k: number,
  { dim = -1, largest = true }: { dim?: number; largest?: boolean } = {},
): RefIndices {
  const order = argsort(x, { dim, descending: largest });
  const axis = axisOf(x.shape.length, dim);
  const first = alongAxis(ref(order.shape, order.data), dim, (row) => row.slice(0, k));
  return indices(
    x.shape.map((n, d) => (d === axis ? k : n)),
    first.data,
  );
}
