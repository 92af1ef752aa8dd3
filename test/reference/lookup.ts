import { around, at, lengthOf, type RefIndices, type RefTensor, ref, sizeOf } from "./tensor.ts";

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

/** Rows `ids` of x along dimension 0: x [N, ...], ids -> [ids, ...]. */
export function indexSelect(x: RefTensor, ids: RefIndices): RefTensor {
  const rest = x.shape.slice(1);
  const width = sizeOf(rest);
  const out = ref([ids.data.length, ...rest]);
  for (const [i, id] of ids.data.entries()) {
    if (id < 0 || id >= lengthOf(x.shape, 0))
      throw new Error(`lookup: id ${id} of ${lengthOf(x.shape, 0)} rows`);
    out.data.set(x.data.subarray(id * width, (id + 1) * width), i * width);
  }
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
