import { type Derivative, floatsAt, sumTo } from "./derivative.ts";
import { permute, reshape, split } from "./layout.ts";
import { map } from "./pointwise.ts";
import { sum } from "./reduce.ts";
import { at, axisOf, expand, indexMap, lengthOf, type RefTensor, ref, sizeOf, stridesOf } from "./tensor.ts";

/** dy with the dimensions back that a sum has dropped, repeated to `shape`. */
function spread(dy: RefTensor, shape: readonly number[], axes: readonly number[] | undefined): RefTensor {
  const gone = new Set(axes ? axes.map((axis) => axisOf(shape.length, axis)) : shape.keys());
  return expand(
    reshape(
      dy,
      shape.map((n, d) => (gone.has(d) ? 1 : n)),
    ),
    shape,
  );
}

const backOrder = (order: readonly number[], rank: number): number[] => {
  const back = new Array<number>(rank);
  for (const [i, axis] of order.entries()) back[axisOf(rank, axis)] = i;
  return back;
};

const slice: Derivative = (dy, inputs, _y, { axis, start }) => {
  const { shape } = floatsAt(inputs, 0);
  const d = axisOf(shape.length, Number(axis));
  const first = Number(start) < 0 ? Number(start) + at(shape, d) : Number(start);
  const strides = stridesOf(shape);
  const out = ref(shape);
  const offset = first * at(strides, d);
  for (const [i, to] of indexMap(dy.shape, dy.shape, strides).entries()) {
    // A dimension of one element has no step; its place is in the offset.
    out.data[offset + to] = at(dy.data, i);
  }
  return [out];
};

/** Shared evenly by the elements that are the largest (or smallest). */
const ofEquals: Derivative = (dy, inputs, y, { axes }) => {
  const x = floatsAt(inputs, 0);
  const over = axes as number[] | undefined;
  const best = spread(y, x.shape, over);
  const hits = ref(
    x.shape,
    x.data.map((v, i) => (v === at(best.data, i) ? 1 : 0)),
  );
  const counts = spread(sum(hits, { dims: over }), x.shape, over);
  const shares = spread(dy, x.shape, over);
  return [
    ref(
      x.shape,
      hits.data.map((hit, i) => (hit * at(shares.data, i)) / at(counts.data, i)),
    ),
  ];
};

export const viewDerivatives: Readonly<Record<string, Derivative>> = {
  reshape: (dy, inputs) => [reshape(dy, floatsAt(inputs, 0).shape)],
  permute: (dy, _inputs, _y, { order }) => [permute(dy, backOrder(order as number[], dy.shape.length))],
  transpose: (dy, _inputs, _y, { a = 0, b = -1 }) => {
    const order = [...dy.shape.keys()];
    const [i, j] = [axisOf(order.length, Number(a)), axisOf(order.length, Number(b))];
    [order[i], order[j]] = [j, i];
    return [permute(dy, order)];
  },
  expand: (dy, inputs) => [sumTo(dy, floatsAt(inputs, 0).shape)],
  slice,
  concat: (dy, inputs, _y, { axis }) =>
    split(
      dy,
      inputs.map((_, i) => lengthOf(floatsAt(inputs, i).shape, Number(axis))),
      { dim: Number(axis) },
    ),
  stack: (dy, inputs, _y, { axis = 0 }) =>
    split(dy, 1, { dim: Number(axis) }).map((part, i) => reshape(part, floatsAt(inputs, i).shape)),
  sum: (dy, inputs, _y, { axes }) => [spread(dy, floatsAt(inputs, 0).shape, axes as number[] | undefined)],
  mean: (dy, inputs, _y, { axes }) => {
    const { shape } = floatsAt(inputs, 0);
    const share = sizeOf(dy.shape) / sizeOf(shape);
    return [map(spread(dy, shape, axes as number[] | undefined), (g) => g * share)];
  },
  max: ofEquals,
  min: ofEquals,
  mse: (dy, inputs, _y, { reduction = "mean" }) => {
    const [x, t] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
    const share = reduction === "mean" ? 2 / x.data.length : 2;
    const dx = ref(
      x.shape,
      x.data.map((v, i) => share * at(dy.data, reduction === "none" ? i : 0) * (v - at(t.data, i))),
    );
    return [dx, map(dx, (v) => -v)];
  },
};
