import type { Gpu, GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";
import { type Contraction, contract, type Operand, type Piece } from "./contraction.ts";

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
  /** From the bias of one expert or block to the next. Default N. */
  readonly biasStride?: number;
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

/** The kernel of a product and the rows and columns of c that one of its workgroups takes. */
interface Choice {
  readonly kernel: KernelSpec;
  readonly rows: number;
  readonly columns: number;
  /** The binding of c: as vec4 or as floats. */
  readonly output: "c" | "c4";
}

function choose(gpu: Gpu, p: Product, strides: Strides): Choice {
  if (!gpu.isSoftware) return { kernel: tiled, rows: 64, columns: 64, output: "c" };
  const lanes = gpu.subgroupSize;
  const entry = subgroupEntry(p, strides, lanes);
  if (!entry) return { kernel: plain, rows: 32, columns: 32, output: "c" };
  const kernel = subgroupKernel(entry, lanes);
  return { kernel, rows: subgroupRows(entry, lanes), columns: 4 * lanes, output: "c4" };
}

/** Records a matrix product, in pieces where an operand lies in several chunks or the grid would be too large. */
export function gemm(gpu: Gpu, p: Product): void {
  const { M, N, batch = 1 } = p;
  if (M === 0 || N === 0 || batch === 0) return;
  const strides = stridesOf(p);
  // Pieces take the kernel of the whole: it decides the order of the sums.
  const choice = choose(gpu, p, strides);
  const { rows, columns } = choice;
  const fitsGrid = batch <= MAX_GROUPS && M <= MAX_GROUPS * rows && N <= MAX_GROUPS * columns;
  if (fitsGrid && isBound(p.a) && isBound(p.b) && isBound(p.c) && isBound(p.bias) && isBound(p.route)) {
    recordProduct(gpu, p, strides, choice);
    return;
  }
  contract(gpu, contractionOf(p, strides, choice), (piece) => {
    const part = productOf(p, piece);
    recordProduct(gpu, part, stridesOf(part), choice);
  });
}

function isBound(array: GpuArray | null | undefined): boolean {
  return array?.isInOneChunk !== false;
}

/** Workgroups along one dimension of a grid. */
const MAX_GROUPS = 65_535;

/** Records one matrix product whose arrays can be bound. */
function recordProduct(
  gpu: Gpu,
  p: Product,
  strides: Strides,
  { kernel, rows, columns, output }: Choice,
): void {
  const { M, N, K, batch = 1 } = p;
  const params = {
    M,
    N,
    K,
    ...strides,
    stride_bias: p.biasStride ?? N,
    inner: p.inner ?? 1,
    has_bias: p.bias ? 1 : 0,
    routed: p.routing === "pick" ? 1 : p.routing === "collect" ? 2 : 0,
    groups: p.route?.size ?? 0,
    scale: p.scale ?? 1,
  };
  const arrays = { a: p.a, b: p.b, bias: p.bias ?? null, route: p.route ?? null, [output]: p.c };
  gpu.run(kernel, arrays, params, [Math.ceil(N / columns), Math.ceil(M / rows), batch]);
}

/** The product as walks through its operands, for cutting. */
function contractionOf(p: Product, s: Strides, { rows, columns }: Choice): Contraction {
  const { M, N, K, batch = 1, inner = 1, bias, route } = p;
  const picks = p.routing === "pick";
  const collects = p.routing === "collect";
  const experts = collects ? batch : picks ? Math.floor(p.b.size / s.stride_b) : 1;
  const inputs: Record<string, Operand> = {
    a: {
      array: p.a,
      strides: { [collects ? "group" : "block"]: s.stride_a, inner: s.inner_a, m: s.a_row, k: s.a_column },
    },
    b: {
      array: p.b,
      strides: {
        [picks ? "expert" : collects ? "group" : "block"]: s.stride_b,
        inner: s.inner_b,
        n: s.b_column,
        k: s.b_row,
      },
    },
  };
  const biasStride = p.biasStride ?? N;
  if (bias) inputs.bias = { array: bias, strides: { [picks ? "expert" : "block"]: biasStride, n: 1 } };
  if (route) inputs.route = { array: route, strides: { [picks ? "block" : "group"]: 1 } };
  const block = collects ? 1 : batch / inner;
  const most = Number.POSITIVE_INFINITY;
  return {
    sizes: { block, inner, m: M, n: N, k: K, group: collects ? (route?.size ?? 0) : 1, expert: experts },
    most: {
      block: Math.max(Math.floor(MAX_GROUPS / inner), 1),
      inner: MAX_GROUPS,
      m: MAX_GROUPS * rows,
      n: MAX_GROUPS * columns,
      k: most,
      group: most,
      expert: most,
    },
    inputs,
    output: {
      array: p.c,
      strides: { [collects ? "expert" : "block"]: s.stride_c, inner: s.inner_c, m: s.c_row, n: 1 },
    },
  };
}

/** A piece as a product of its own. Only the first piece of a sum adds the bias. */
function productOf(p: Product, { sizes, inputs, output, continues }: Piece): Product {
  const { m: M, n: N, k: K } = sizes;
  const collects = p.routing === "collect";
  const { a, b, bias, route } = inputs as Readonly<Record<"a" | "b", Operand> & Record<string, Operand>>;
  const layout = ({ strides }: Operand, row: "m" | "n" | "k"): Layout => ({
    row: strides[row] ?? 0,
    stride: strides.block ?? strides.group ?? strides.expert ?? 0,
    inner: strides.inner ?? 0,
  });
  return {
    ...p,
    a: a.array,
    b: b.array,
    c: output.array,
    bias: continues ? null : (bias?.array ?? null),
    biasStride: bias?.strides.expert ?? bias?.strides.block ?? N,
    ...(route && { route: route.array }),
    M,
    N,
    K,
    batch: collects ? sizes.expert : sizes.block * sizes.inner,
    inner: sizes.inner,
    layoutA: layout(a, p.transposeA ? "k" : "m"),
    layoutB: layout(b, p.transposeB ? "n" : "k"),
    layoutC: layout(output, "m"),
  };
}
