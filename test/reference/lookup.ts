import {
  around,
  at,
  axisOf,
  indexMap,
  lengthOf,
  type RefIndices,
  type RefTensor,
  ref,
  stridesOf,
} from "./tensor.ts";

/**
 * w [V, C], ids [...] -> [..., C]. The forward ignores `paddingIdx`: that row only gets no gradient, which a
 * test obtains by zeroing its row of the numerical gradient (`zeroRow`).
 */
export function embedding(w: RefTensor, ids: RefIndices): RefTensor {
  const C = lengthOf(w.shape, 1);
  return ref([...ids.shape, C], indexSelect(w, ids).data);
}

/** The gradient of an embedding table with the row of its padding index set to 0. */
export function zeroRow(w: RefTensor, row: number): RefTensor {
  const C = lengthOf(w.shape, 1);
  const out = ref(w.shape, w.data);
  out.data.fill(0, row * C, (row + 1) * C);
  return out;
}

/** Rows `ids` of x along a dimension: x [N, ...], ids -> [ids, ...] for dimension 0. */
export function indexSelect(x: RefTensor, ids: RefIndices, { dim = 0 }: { dim?: number } = {}): RefTensor {
  const axis = axisOf(x.shape.length, dim);
  const { outer, length, inner } = around(x.shape, axis);
  const out = ref(x.shape.map((own, d) => (d === axis ? ids.data.length : own)));
  for (let o = 0; o < outer; o++) {
    for (const [i, id] of ids.data.entries()) {
      if (id < 0 || id >= length) throw new Error(`lookup: id ${id} of ${length} rows`);
      const from = (o * length + id) * inner;
      out.data.set(x.data.subarray(from, from + inner), (o * ids.data.length + i) * inner);
    }
  }
  return out;
}

/** For each element of `ids`, in order, the element of x [.., N, ..] at the same place but for its id along `dim`. */
function targets(x: RefTensor, ids: RefIndices, dim: number): number[] {
  const axis = axisOf(x.shape.length, dim);
  const steps = stridesOf(x.shape);
  const own = indexMap(
    ids.shape,
    ids.shape,
    steps.map((step, d) => (d === axis ? 0 : step)),
  );
  return Array.from(ids.data, (id, i) => at(own, i) + id * at(steps, axis));
}

/** y[i, j, k] = x[i, ids[i, j, k], k] for dimension 1. */
export function gather(x: RefTensor, ids: RefIndices, { dim }: { dim: number }): RefTensor {
  return ref(
    ids.shape,
    targets(x, ids, dim).map((from) => at(x.data, from)),
  );
}

/** x with y[i, ids[i, j, k], k] += source[i, j, k] for dimension 1. */
export function scatterAdd(
  x: RefTensor,
  ids: RefIndices,
  source: RefTensor,
  { dim }: { dim: number },
): RefTensor {
  const out = ref(x.shape, x.data);
  for (const [i, to] of targets(x, ids, dim).entries()) out.data[to] = at(out.data, to) + at(source.data, i);
  return out;
}

/** y[..., j] = x[..., ids[..., j]] along the last dimension. */
export function gatherLast(x: RefTensor, ids: RefIndices): RefTensor {
  const { outer, length } = around(x.shape, -1);
  const wanted = ids.data.length / outer;
  return {
    shape: ids.shape,
    data: Float64Array.from(ids.data, (id, i) => at(x.data, Math.floor(i / wanted) * length + id)),
  };
}
