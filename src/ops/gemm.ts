import type { Gpu, GpuArray } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";

/** c[i] = scale op(a[i]) op(b[i]) + bias; see shaders/lib/gemm.wgsl. Strides count floats between batches; 0 shares. */
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
  readonly batch?: number;
  readonly strideA?: number;
  readonly strideB?: number;
  /** i32 expert indices. `pick`: b[i] (and bias) is expert route[i]. `collect`: c[i] sums over groups routed to i. */
  readonly route?: GpuArray;
  readonly routing?: "pick" | "collect";
}

const tiled: KernelSpec = { shader: "matmul", entry: "tiled" };
const plain: KernelSpec = { shader: "matmul", entry: "plain" };
const subgroupKernels = new Map<string, KernelSpec>();

function subgroupKernel(entry: "nn" | "nt" | "tn", lanes: number): KernelSpec {
  const key = `${entry}${lanes}`;
  let kernel = subgroupKernels.get(key);
  if (!kernel) {
    kernel = { shader: "matmul_subgroup", entry, constants: { LANES: `${lanes}u` } };
    subgroupKernels.set(key, kernel);
  }
  return kernel;
}

/** The barrier-free kernel that suits these sizes, or null. It loads vec4 along the contiguous dimension. */
function subgroupEntry(p: Product, lanes: number): "nn" | "nt" | "tn" | null {
  if (lanes < 4 || lanes > 16 || p.N % 4 !== 0) return null;
  if (p.transposeA) return !p.transposeB && p.M % 4 === 0 ? "tn" : null;
  if (p.K % 4 !== 0 || p.routing === "collect") return null;
  return p.transposeB ? "nt" : "nn";
}

/** Records one matrix product. Chosen by adapter class and shape. */
export function gemm(gpu: Gpu, p: Product): void {
  const { M, N, K, batch = 1, strideA = 0, strideB = 0 } = p;
  if (M === 0 || N === 0 || batch === 0) return;
  if (batch > 65_535) throw new ShapeError(`matmul: ${batch} matrices in one batch, above 65,535`);
  const params = {
    M,
    N,
    K,
    stride_a: strideA,
    stride_b: strideB,
    stride_c: M * N,
    stride_bias: N,
    has_bias: p.bias ? 1 : 0,
    routed: p.routing === "pick" ? 1 : p.routing === "collect" ? 2 : 0,
    groups: p.route?.size ?? 0,
    a_row: p.transposeA ? 1 : K,
    a_column: p.transposeA ? M : 1,
    b_row: p.transposeB ? 1 : N,
    b_column: p.transposeB ? K : 1,
    scale: p.scale ?? 1,
  };
  const arrays = { a: p.a, b: p.b, bias: p.bias ?? null, route: p.route ?? null };
  const entry = gpu.isSoftware ? subgroupEntry(p, gpu.subgroupSize) : null;
  if (entry) {
    const lanes = gpu.subgroupSize;
    const grid = [Math.ceil(N / (4 * lanes)), Math.ceil(M / 16), batch] as const;
    gpu.run(subgroupKernel(entry, lanes), { ...arrays, c4: p.c }, params, grid);
  } else if (gpu.isSoftware) {
    gpu.run(plain, { ...arrays, c: p.c }, params, [Math.ceil(N / 32), Math.ceil(M / 32), batch]);
  } else {
    gpu.run(tiled, { ...arrays, c: p.c }, params, [Math.ceil(N / 64), Math.ceil(M / 64), batch]);
  }
}
