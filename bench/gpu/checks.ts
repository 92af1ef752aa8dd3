// Whether the kernels that this adapter chooses are right, before anything is timed: products of every transposition,
// type of weight and size of tile, against float64, into memory that held NaN.
import { type Gpu, matmul, noGrad, Stream, type Tensor, tensor, tidy } from "../../src/index.ts";

export interface Check {
  readonly name: string;
  /** The largest error, as a share of the largest value. */
  readonly error: number;
  readonly limit: number;
}

type Form = "nn" | "nt" | "tn";

interface Product {
  readonly form: Form;
  readonly type: "f32" | "f16" | "bf16";
  readonly size: readonly [M: number, K: number, N: number];
}

const stream = Stream.seed(7).fold("gpu checks");
/** Of weights in 16 bits: what the reference multiplies is what they hold, but the other operand is rounded to f16. */
const ROUNDED = 2e-3;
const LIMITS = { f32: 2e-6, f16: ROUNDED, bf16: 2e-6 } as const;

/** Sizes that divide tiles, that do not, and that take large tiles; a row; few columns, as low ranks have, or rows; few results of
 * long sums, as their gradients have, which are cut. */
const SIZES = [
  [64, 64, 64],
  [130, 67, 129],
  [1, 300, 77],
  [513, 256, 8],
  [20, 130, 200],
  [8, 3000, 200],
  [2050, 96, 1030],
] as const;

export function productChecks(): Product[] {
  const forms = [
    ["nn", "f32"],
    ["nt", "f32"],
    ["tn", "f32"],
    ["nn", "f16"],
    ["nt", "f16"],
    ["nt", "bf16"],
  ] as const;
  return SIZES.flatMap((size) => forms.map(([form, type]) => ({ form, type, size })));
}

/** Some rows of the product are compared: all of them would take float64 on the host longer than everything else. */
const ROWS_COMPARED = 40;

export async function checkProduct(gpu: Gpu, { form, type, size: [M, K, N] }: Product): Promise<Check> {
  const [a, b] = [stream.fold("a").normal(M * K), stream.fold("b").normal(K * N)];
  const [left, plain] = [
    tensor(gpu, a, form === "tn" ? [K, M] : [M, K]),
    tensor(gpu, b, form === "nt" ? [N, K] : [K, N]),
  ];
  const right = noGrad(() => (type === "f32" ? plain : plain.to(type)));
  const held = Float64Array.from(await tidy(() => right.to("f32")).data());
  poison(gpu, M * N);
  const y = noGrad(() => matmul(left, right, { transposeA: form === "tn", transposeB: form === "nt" }));
  const values = (await y.data()) as Float32Array;
  let [error, largest] = [0, 0];
  for (let i = 0; i < Math.min(M, ROWS_COMPARED); i++) {
    const m = Math.floor((i * M) / Math.min(M, ROWS_COMPARED));
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let k = 0; k < K; k++)
        sum +=
          (a[form === "tn" ? k * M + m : m * K + k] ?? 0) *
          (held[form === "nt" ? n * K + k : k * N + n] ?? 0);
      const difference = Math.abs((values[m * N + n] ?? Number.NaN) - sum);
      error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(error, difference);
      largest = Math.max(largest, Math.abs(sum));
    }
  }
  for (const x of new Set([left, plain, right, y])) x.dispose();
  return { name: `${form} ${M}x${K}x${N}, weight ${type}`, error: error / largest, limit: LIMITS[type] };
}

/** Leaves NaN in the memory that the next array of this size is given. */
export function poison(gpu: Gpu, size: number): void {
  const old: Tensor = tensor(gpu, new Float32Array(size).fill(Number.NaN));
  old.dispose();
}
