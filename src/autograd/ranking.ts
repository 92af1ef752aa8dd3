import { lastOf, normaliseAxis, rowsOf } from "../array/index.ts";
import * as ops from "../ops/index.ts";
import { tensor } from "./create.ts";
import { embedding } from "./functions.ts";
import { noGrad, tidy } from "./scope.ts";
import { apply, type Tensor } from "./tensor.ts";

/** Order along one dimension: indices have no derivative, values are gathered by them and do. */

/** What was found, and where along the dimension it lay (i32). */
export interface Ranked {
  readonly values: Tensor;
  readonly indices: Tensor;
}

export interface SortOptions {
  /** From the largest down. */
  readonly descending?: boolean;
}

/**
 * The k largest elements along `axis` (or smallest, with largest: false) in their order, of equals the first. NaN is the
 * largest. x [..., C] -> values and indices [..., k].
 */
export function topK(
  x: Tensor,
  k: number,
  axis = -1,
  { largest = true }: { largest?: boolean } = {},
): Ranked {
  return ranked("topK", x, axis, (moved) => apply(ops.topKIndices, [moved], { k, largest }));
}

/** The elements along `axis` in order. Stable: equals keep theirs. NaN is the largest, and -0 equals 0. */
export function sort(x: Tensor, axis = -1, { descending = false }: SortOptions = {}): Ranked {
  return ranked("sort", x, axis, (moved) => apply(ops.argsort, [moved], { descending }));
}

/** The indices along `axis` that sort x: i32. */
export function argsort(x: Tensor, axis = -1, { descending = false }: SortOptions = {}): Tensor {
  return tidy(() => {
    const last = x.shape.length - 1;
    const i = normaliseAxis("argsort", axis, x.shape.length);
    return apply(ops.argsort, [x.transpose(i, last)], { descending }).transpose(i, last);
  });
}

function ranked(op: string, x: Tensor, axis: number, rank: (moved: Tensor) => Tensor): Ranked {
  return tidy(() => {
    const last = x.shape.length - 1;
    const i = normaliseAxis(op, axis, x.shape.length);
    const moved = i === last ? x : x.transpose(i, last);
    const indices = noGrad(() => rank(moved));
    const values = gatheredLast(moved, indices);
    if (i === last) return { values, indices };
    return { values: values.transpose(i, last), indices: indices.transpose(i, last) };
  });
}

/** x[..., indices[..., k]] along the last dimension. */
function gatheredLast(x: Tensor, indices: Tensor): Tensor {
  const { rows, columns } = rowsOf(x.shape);
  const k = lastOf(indices.shape);
  const starts = tensor(
    x.gpu,
    Int32Array.from({ length: rows }, (_, row) => row * columns),
    [rows, 1],
  );
  const flat = indices.reshape(rows, k).add(starts);
  return embedding(x.reshape(x.size, 1), flat).reshape(...indices.shape);
}
