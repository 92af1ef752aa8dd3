/**
 * Matrices of f16 that a subgroup multiplies to sums of f32: left [rows, step], right [step, columns],
 * sum [rows, columns].
 */
export interface MatrixSizes {
  readonly rows: number;
  readonly columns: number;
  readonly step: number;
  /** Threads of a subgroup. */
  readonly subgroup: number;
  /** Steps along K for which operands are staged in workgroup memory at a time. */
  readonly depth: 16 | 32;
  /** Computed by plain code, for tests on adapters without such matrices. */
  readonly isEmulated?: boolean;
}

/** What an adapter says of one kind of matrix: WebGPU's names, M rows, N columns, K steps. */
export interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Sizes that tiles can be made of, and of which four results fit into workgroup memory beside the operands. */
const SIZES = [8, 16];
/** Bytes of workgroup memory for tiles of the greater depth. */
const DEEP_BYTES = 26 * 1024;

/**
 * The largest matrices of f16 with sums of f32 that the tiles of shaders/matmul_matrix.wgsl can be made of; null where
 * the adapter has none. `workgroupBytes`: its workgroup memory, at least 16 KiB.
 */
export function chooseMatrices(
  configs: readonly MatrixConfig[],
  { subgroup, workgroupBytes }: { readonly subgroup: number; readonly workgroupBytes: number },
): MatrixSizes | null {
  if (subgroup === 0) return null;
  const fitting = configs.filter(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" &&
      resultComponentType === "f32" &&
      [M, N, K].every((size) => SIZES.includes(size)) &&
      (M * N) % subgroup === 0,
  );
  fitting.sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  const [best] = fitting;
  const depth = workgroupBytes >= DEEP_BYTES ? 32 : 16;
  return best ? { rows: best.M, columns: best.N, step: best.K, subgroup, depth } : null;
}
