import type { OptionNames } from "../array/index.ts";
import type { MatmulAttrs } from "../ops/index.ts";

/** Options of a tensor's methods, which functions share. */

export type Axes = number | readonly number[];

export interface ReduceOptions {
  /** Leaves reduced dimensions with size 1. */
  readonly keepDim?: boolean;
}
export const REDUCE: OptionNames<ReduceOptions> = { keepDim: true };

export interface BackwardOptions {
  /** Keeps what the forward pass saved, for another backward; dispose() gives it back. Default: false. */
  readonly retainGraph?: boolean;
}
export const BACKWARD: OptionNames<BackwardOptions> = { retainGraph: true };

/** Of MatmulOptions, whose bias is a tensor. */
export const MATMUL: OptionNames<MatmulAttrs & { readonly bias?: unknown }> = {
  bias: true,
  transposeA: true,
  transposeB: true,
  activation: true,
};
