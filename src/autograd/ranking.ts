import { knownOptions, normaliseAxis, type OptionNames } from "../array/index.ts";
import * as ops from "../ops/index.ts";
import { gather } from "./functions.ts";
import { tidy } from "./scope.ts";
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
const SORT: OptionNames<SortOptions> = { descending: true };

/**
 * The k largest elements along `axis` (or smallest, with largest: false) in their order, of equals the first. NaN is the
 * largest. x [..., C] -> values and indices [..., k].
 */
export function topK(x: Tensor, k: number, axis = -1, options: { largest?: boolean } = {}): Ranked {
  const { largest = true } = knownOptions("topK", options, { largest: true });
  return ranked("topK", x, axis, (moved) => apply(ops.topKIndices, [moved], { k, largest }));
}

/** The elements along `axis` in order. Stable: equals keep theirs. NaN is the largest, and -0 equals 0. */
export function sort(x: Tensor, axis = -1, options: SortOptions = {}): Ranked {
  const { descending = false } = knownOptions("sort", options, SORT);
  return ranked("sort", x, axis, (moved) => apply(ops.argsort, [moved], { descending }));
}

/** The indices along `axis` that sort x: i32. */
export function argsort(x: Tensor, axis = -1, options: SortOptions = {}): Tensor {
  const { descending = false } = knownOptions("argsort", options, SORT);
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
    const indices = i === last ? rank(x) : rank(x.transpose(i, last)).transpose(i, last);
    return { values: gather(x, i, indices), indices };
  });
}
