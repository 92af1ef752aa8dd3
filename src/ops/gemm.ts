import type { Gpu, GpuArray } from "../array/index.ts";
import { grid1d, type KernelSpec } from "../gpu/index.ts";
import { type Activation, activationCode } from "./activation.ts";

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

type Entry = "nn" | "nt" | "tn";
/** What is done with a result: the library of shaders/lib that stores it. */
type Store = "gemm_store" | "gemm_store_activated" | "gemm_store_added";

/** What one kernel is made of; see `kernelOf`. */
interface Variant {
  readonly shader: string;
  readonly entry: string;
  readonly store: Store;
  /** Lanes of its subgroups; 0: of no matter. */
  readonly lanes?: number;
  /** Loads single floats. */
  readonly ones?: boolean;
}

const kernels = new Map<string, KernelSpec>();

function kernelOf({ shader, entry, store, lanes = 0, ones = false }: Variant): KernelSpec {
  const key = `${shader}.${entry} ${store} ${lanes} ${ones}`;
  let kernel = kernels.get(key);
  if (!kernel) {
    const uses: Record<string, string> = {};
    const constants: Record<string, string> = {};
    if (store !== "gemm_store") uses["lib/gemm_store"] = `lib/${store}`;
    if (ones) uses["lib/gemm_fours"] = "lib/gemm_ones";
    if (lanes > 0 && shader !== "matmul_subgroup4") constants.LANES = `${lanes}u`;
    if (lanes > 0 && shader === "matmul_vector") {
      uses["lib/row_workgroup"] = "lib/row_subgroup";
      uses["lib/lanes_workgroup"] = "lib/lanes_subgroup";
    }
    kernel = { shader, entry, uses, constants };
    kernels.set(key, kernel);
  }
  return kernel;
}

interface Strides {
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

function stridesOf(p: Product): Strides {
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

/** The barrier-free kernel of these operands, or null where only the plain one is left. */
function subgroupEntry(p: Product, lanes: number): Entry | null {
  if (lanes !== 4 && lanes !== 8 && lanes !== 16) return null;
  if (p.transposeA) return p.transposeB ? null : "tn";
  return p.transposeB ? "nt" : "nn";
}

/** Whether vec4 may be loaded along the contiguous dimensions: sizes and offsets along them are multiples of 4. */
function inFours(entry: Entry, p: Product, s: Strides): boolean {
  const rows = [p.transposeA ? s.a_column : s.a_row, p.transposeB ? s.b_column : s.b_row, s.c_row];
  const { start_a, start_b, start_c, stride_a, stride_b, stride_c } = s;
  const { inner_a, inner_b, inner_c, sum_a, sum_b } = s;
  const offsets = [start_a, start_b, start_c, stride_a, stride_b, stride_c];
  const sizes = [p.N, entry === "tn" ? p.M : p.K];
  const all = [...sizes, ...rows, ...offsets, inner_a, inner_b, inner_c, sum_a, sum_b];
  return all.every((n) => n % 4 === 0);
}

/** Rows of one workgroup of a barrier-free kernel. */
function subgroupRows(entry: Entry, lanes: number): number {
  return lanes === 4 && entry !== "tn" ? 8 : 16;
}

interface Choice {
  readonly kernel: KernelSpec;
  /** The name that the kernel gives its results: c or, in groups of four, c4. */
  readonly four: boolean;
  readonly rows: number;
  readonly columns: number;
}

/** Chosen by adapter class, what is transposed, whether there is one row, and whether sizes are multiples of four. */
function choose(gpu: Gpu, p: Product, strides: Strides): Choice {
  const store = storeOf(p);
  const lanes = gpu.isSoftware ? gpu.subgroupSize : 0;
  const entry = subgroupEntry(p, lanes);
  const isSum = (p.sums ?? 1) > 1 || p.routing === "collect";
  if (p.M === 1 && !p.transposeA && p.transposeB && !isSum) {
    const four = inFours("nt", p, strides);
    const kernel = kernelOf({ shader: "matmul_vector", entry: "nt", store, lanes, ones: !four });
    return { kernel, four, rows: 1, columns: 4 };
  }
  if (!gpu.isSoftware) {
    return {
      kernel: kernelOf({ shader: "matmul", entry: "tiled", store }),
      four: false,
      rows: 64,
      columns: 64,
    };
  }
  if (!entry || (isSum && entry !== "tn")) {
    return {
      kernel: kernelOf({ shader: "matmul", entry: "plain", store }),
      four: false,
      rows: 32,
      columns: 32,
    };
  }
  const four = inFours(entry, p, strides);
  const shader = lanes === 4 ? "matmul_subgroup4" : "matmul_subgroup";
  const kernel = kernelOf({ shader, entry, store, lanes, ones: !four });
  return { kernel, four, rows: subgroupRows(entry, lanes), columns: 4 * lanes };
}

function storeOf({ activation, accumulate }: Product): Store {
  if (activation) return "gemm_store_activated";
  return accumulate ? "gemm_store_added" : "gemm_store";
}

/** Products of one dispatch: the largest grid in z. */
const MOST_PRODUCTS = 65_535;

/** Records matrix products: one dispatch, or more for a batch beyond 65,535. */
export function gemm(gpu: Gpu, p: Product): void {
  const { M, N, K, batch = 1 } = p;
  if (M === 0 || N === 0 || batch === 0) return;
  const strides = stridesOf(p);
  const { kernel, four, rows, columns } = choose(gpu, p, strides);
  const arrays: Record<string, GpuArray | null> = {
    a: p.a,
    b: p.b,
    bias: p.bias ?? null,
    route: p.route ?? null,
  };
  arrays[four ? "c4" : "c"] = p.c;
  // A dummy that nothing else in the dispatch is bound to: it is bound for writing.
  if (p.activation) arrays[four ? "kept4" : "kept"] = p.z ?? gpu.empty([4]);
  const params = {
    M,
    N,
    K,
    ...strides,
    stride_bias: p.routing === "pick" ? N : 0,
    inner: p.inner ?? 1,
    share: p.share ?? 1,
    sums: p.routing === "collect" ? (p.route?.size ?? 0) : (p.sums ?? 1),
    has_bias: p.bias ? 1 : 0,
    routed: p.routing === "pick" ? 1 : p.routing === "collect" ? 2 : 0,
    activation: activationCode(p.activation),
    keeps_z: p.z ? 1 : 0,
    first: 0,
    scale: p.scale ?? 1,
  };
  const [x, y] = grid1d(Math.ceil(N / columns) * Math.ceil(M / rows));
  for (let first = 0; first < batch; first += MOST_PRODUCTS) {
    const count = Math.min(MOST_PRODUCTS, batch - first);
    const work = { flops: 2 * M * N * K * count };
    gpu.run(kernel, arrays, first === 0 ? params : { ...params, first }, [x, y, count], work);
  }
}
