import type { Gpu, GpuArray } from "../array/index.ts";
import { type Grid, type KernelSpec, ShapeError } from "../gpu/index.ts";

/** Where the matrices of one operand lie, in floats. */
export interface Layout {
  /** From one stored row to the next. Default: rows without gaps. */
  readonly row?: number;
  /** From one block of the batch to the next; 0: all share one. Default 0, for c the size of a matrix. */
  readonly stride?: number;
  /** From one matrix of a block to the next; see `Product.inner`. Default 0. */
  readonly inner?: number;
}

/** c[i] = scale op(a[i]) op(b[i]) + bias; see shaders/lib/gemm.wgsl. */
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
  readonly scale?: number;
  /** Number of products. Default 1. */
  readonly batch?: number;
  /** Products of one block: product i is number i mod inner of block i div inner. Default 1. */
  readonly inner?: number;
  readonly layoutA?: Layout;
  readonly layoutB?: Layout;
  readonly layoutC?: Layout;
  /** i32 expert indices. `pick`: b[i] (and bias) is expert route[i]. `collect`: c[i] sums over groups routed to i. */
  readonly route?: GpuArray;
  readonly routing?: "pick" | "collect";
}

type Entry = "nn" | "nt" | "tn";
const tiled: KernelSpec = { shader: "matmul", entry: "tiled" };
const plain: KernelSpec = { shader: "matmul", entry: "plain" };
const subgroupKernels = new Map<string, KernelSpec>();

function subgroupKernel(entry: Entry, lanes: number): KernelSpec {
  const key = `${entry}${lanes}`;
  let kernel = subgroupKernels.get(key);
  if (!kernel) {
    kernel =
      lanes === 4
        ? { shader: "matmul_subgroup4", entry }
        : { shader: "matmul_subgroup", entry, constants: { LANES: `${lanes}u` } };
    subgroupKernels.set(key, kernel);
  }
  return kernel;
}

interface Strides {
  readonly a_row: number;
  readonly a_column: number;
  readonly b_row: number;
  readonly b_column: number;
  readonly c_row: number;
  readonly stride_a: number;
  readonly stride_b: number;
  readonly stride_c: number;
  readonly inner_a: number;
  readonly inner_b: number;
  readonly inner_c: number;
}

function stridesOf(p: Product): Strides {
  const { M, N, K } = p;
  const rowA = p.layoutA?.row ?? (p.transposeA ? M : K);
  const rowB = p.layoutB?.row ?? (p.transposeB ? K : N);
  return {
    a_row: p.transposeA ? 1 : rowA,
    a_column: p.transposeA ? rowA : 1,
    b_row: p.transposeB ? 1 : rowB,
    b_column: p.transposeB ? rowB : 1,
    c_row: p.layoutC?.row ?? N,
    stride_a: p.layoutA?.stride ?? 0,
    stride_b: p.layoutB?.stride ?? 0,
    stride_c: p.layoutC?.stride ?? M * N,
    inner_a: p.layoutA?.inner ?? 0,
    inner_b: p.layoutB?.inner ?? 0,
    inner_c: p.layoutC?.inner ?? 0,
  };
}

/**
 * The barrier-free kernel that suits these sizes, or null. It loads vec4 along the contiguous dimension, so sizes
 * and offsets along it are multiples of 4.
 */
function subgroupEntry(p: Product, s: Strides, lanes: number): Entry | null {
  if ((lanes !== 4 && lanes !== 8 && lanes !== 16) || p.N % 4 !== 0) return null;
  const rows = [p.transposeA ? s.a_column : s.a_row, p.transposeB ? s.b_column : s.b_row, s.c_row];
  const offsets = [s.stride_a, s.stride_b, s.stride_c, s.inner_a, s.inner_b, s.inner_c];
  if (![...rows, ...offsets].every((n) => n % 4 === 0)) return null;
  if (p.transposeA) return !p.transposeB && p.M % 4 === 0 ? "tn" : null;
  if (p.K % 4 !== 0 || p.routing === "collect") return null;
  return p.transposeB ? "nt" : "nn";
}

/** Rows of one workgroup of a barrier-free kernel. */
function subgroupRows(entry: Entry, lanes: number): number {
  return lanes === 4 && entry !== "tn" ? 8 : 16;
}

/** Records one matrix product. Chosen by adapter class and shape. */
export function gemm(gpu: Gpu, p: Product): void {
  const { M, N, K, batch = 1 } = p;
  if (M === 0 || N === 0 || batch === 0) return;
  if (batch > 65_535) throw new ShapeError(`matmul: ${batch} matrices in one batch, above 65,535`);
  const strides = stridesOf(p);
  const params = {
    M,
    N,
    K,
    ...strides,
    stride_bias: N,
    inner: p.inner ?? 1,
    has_bias: p.bias ? 1 : 0,
    routed: p.routing === "pick" ? 1 : p.routing === "collect" ? 2 : 0,
    groups: p.route?.size ?? 0,
    scale: p.scale ?? 1,
  };
  const arrays = { a: p.a, b: p.b, bias: p.bias ?? null, route: p.route ?? null };
  const lanes = gpu.subgroupSize;
  const work = { flops: 2 * M * N * K * batch };
  const entry = gpu.isSoftware ? subgroupEntry(p, strides, lanes) : null;
  const tiles = (columns: number, rows: number): Grid => [Math.ceil(N / columns), Math.ceil(M / rows), batch];
  if (entry) {
    gpu.run(
      subgroupKernel(entry, lanes),
      { ...arrays, c4: p.c },
      params,
      tiles(4 * lanes, subgroupRows(entry, lanes)),
      work,
    );
  } else if (gpu.isSoftware) {
    gpu.run(plain, { ...arrays, c: p.c }, params, tiles(32, 32), work);
  } else {
    gpu.run(tiled, { ...arrays, c: p.c }, params, tiles(64, 64), work);
  }
}
