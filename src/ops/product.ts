import type { GpuArray } from "../array/index.ts";
import type { Activation } from "./activation.ts";

/** Where the matrices of one operand lie, in floats. */
export interface Layout {
  /** The first element of the first matrix. Default 0. */
  readonly start?: number;
  /** From one stored row to the next. Default: rows without gaps. */
  readonly row?: number;
  /** From one block of the batch to the next; 0: all share one. Default 0, for c the size of a matrix. */
  readonly stride?: number;
  /** From one matrix of a block to the next; see `Product.inner`. Default 0. */
  readonly inner?: number;
  /** From one term of a sum of products to the next; see `Product.sums`. Default 0. */
  readonly sum?: number;
}

/** c[i] = f(scale op(a[i]) op(b[i]) + bias); see shaders/lib/gemm.wgsl. */
export interface Product {
  readonly a: GpuArray;
  readonly b: GpuArray;
  readonly c: GpuArray;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** a is stored [K, M]. */
  readonly transposeA?: boolean;
  /** b is stored [N, K]. */
  readonly transposeB?: boolean;
  readonly bias?: GpuArray | null;
  /** From the bias of one expert to the next. Default N. */
  readonly biasStride?: number;
  readonly scale?: number;
  /** f. Default: none. */
  readonly activation?: Activation | undefined;
  /** Laid out as c: takes what the activation is applied to. */
  readonly z?: GpuArray | null;
  /** c += instead of c =. */
  readonly accumulate?: boolean;
  /** Number of products. Default 1. */
  readonly batch?: number;
  /** Products of one block: product i is number i mod inner of block i div inner. Default 1. */
  readonly inner?: number;
  /** So many neighbours of a block have one b: grouped heads. Default 1. */
  readonly share?: number;
  /** Each result is the sum of so many products. Default 1. Only where a is transposed and b is not. */
  readonly sums?: number;
  readonly layoutA?: Layout;
  readonly layoutB?: Layout;
  readonly layoutC?: Layout;
  /**
   * i32 expert indices. `pick`: b[i] (and bias) is expert route[i]. `collect`: c[i] sums over groups routed to i,
   * whose a and b are `stride` apart.
   */
  readonly route?: GpuArray;
  readonly routing?: "pick" | "collect";
}

/** Where the elements of the operands lie, as kernels are told. */
export interface Strides {
  readonly a_row: number;
  readonly a_column: number;
  readonly b_row: number;
  readonly b_column: number;
  readonly c_row: number;
  readonly start_a: number;
  readonly start_b: number;
  readonly start_c: number;
  readonly stride_a: number;
  readonly stride_b: number;
  readonly stride_c: number;
  readonly inner_a: number;
  readonly inner_b: number;
  readonly inner_c: number;
  readonly sum_a: number;
  readonly sum_b: number;
}

export function stridesOf(p: Product): Strides {
  const { M, N, K, layoutA = {}, layoutB = {}, layoutC = {} } = p;
  const rowA = layoutA.row ?? (p.transposeA ? M : K);
  const rowB = layoutB.row ?? (p.transposeB ? K : N);
  // The groups that an expert collects are terms of its sum.
  const collects = p.routing === "collect";
  const { stride: strideA = 0, sum: sumA = 0 } = layoutA;
  const { stride: strideB = 0, sum: sumB = 0 } = layoutB;
  return {
    a_row: p.transposeA ? 1 : rowA,
    a_column: p.transposeA ? rowA : 1,
    b_row: p.transposeB ? 1 : rowB,
    b_column: p.transposeB ? rowB : 1,
    c_row: layoutC.row ?? N,
    start_a: layoutA.start ?? 0,
    start_b: layoutB.start ?? 0,
    start_c: layoutC.start ?? 0,
    stride_a: collects ? 0 : strideA,
    stride_b: collects ? 0 : strideB,
    stride_c: layoutC.stride ?? M * N,
    inner_a: layoutA.inner ?? 0,
    inner_b: layoutB.inner ?? 0,
    inner_c: layoutC.inner ?? 0,
    sum_a: collects ? strideA : sumA,
    sum_b: collects ? strideB : sumB,
  };
}
