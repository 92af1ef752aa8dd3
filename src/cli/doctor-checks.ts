import type { Gpu } from "../array/index.ts";
import {
  attention,
  drawOf,
  dropout,
  gelu,
  layerNorm,
  matmul,
  Stream,
  softmax,
  type Tensor,
  tensor,
} from "../autograd/index.ts";
import * as reference from "./doctor-reference.ts";

export interface Check {
  readonly name: string;
  /** Largest difference from float64, as a share of the largest value. */
  readonly error: number;
  readonly limit: number;
  readonly passed: boolean;
  readonly elapsedMs: number;
}

interface Sample {
  readonly y: Tensor;
  readonly expected: ArrayLike<number>;
  readonly limit: number;
}

const stream = Stream.seed(1).fold("doctor");
const normal = (n: number, name: string) => stream.fold(name).normal(n);

const CHECKS: Readonly<Record<string, (gpu: Gpu) => Sample>> = {
  "matmul [7, 5] x [5, 3]": (gpu) => product(gpu, [7, 5, 3]),
  "matmul [64, 256] x [256, 64]": (gpu) => product(gpu, [64, 256, 64]),
  "matmul [130, 67] x [67, 129]": (gpu) => product(gpu, [130, 67, 129]),
  "softmax [5, 37]": (gpu) => {
    const x = normal(5 * 37, "softmax");
    return { y: softmax(tensor(gpu, x, [5, 37])), expected: reference.softmax(x, 37), limit: 1e-5 };
  },
  "layerNorm [6, 48]": (gpu) => {
    const [x, w, b] = [normal(6 * 48, "x"), normal(48, "w"), normal(48, "b")];
    const y = layerNorm(tensor(gpu, x, [6, 48]), tensor(gpu, w), tensor(gpu, b), 1e-5);
    return { y, expected: reference.layerNorm(x, w, b, 1e-5), limit: 1e-5 };
  },
  "gelu [1000]": (gpu) => {
    const x = normal(1000, "gelu");
    return { y: gelu(tensor(gpu, x)), expected: reference.gelu(x), limit: 1e-5 };
  },
  "attention [2, 9, 16], 4 heads": (gpu) => {
    const [q, k, v] = [normal(288, "q"), normal(288, "k"), normal(288, "v")];
    const keep = Int32Array.from({ length: 18 }, (_, i) => (i < 15 ? 1 : 0));
    const of = (values: Float32Array<ArrayBuffer>) => tensor(gpu, values, [2, 9, 16]);
    const y = attention(of(q), of(k), of(v), tensor(gpu, keep, [2, 9]), { heads: 4 });
    return { y, expected: reference.attention({ q, k, v, keep }, [2, 9, 16, 4]), limit: 1e-5 };
  },
  "dropout [8, 50], bit for bit": dropped,
  "sum of 100,003": (gpu) => {
    const x = normal(100_003, "sum");
    const expected = [x.reduce((sum, value) => sum + value, 0)];
    // The sum is small beside its terms, of which each is rounded.
    return { y: tensor(gpu, x).sum(), expected, limit: 1e-3 };
  },
};

function product(gpu: Gpu, [m, k, n]: readonly [number, number, number]): Sample {
  const [a, b] = [normal(m * k, "a"), normal(k * n, "b")];
  const y = matmul(tensor(gpu, a, [m, k]), tensor(gpu, b, [k, n]));
  return { y, expected: reference.matmul(a, b, [m, k, n]), limit: 1e-5 };
}

/** Dropout keeps exactly the elements that the counters say. */
function dropped(gpu: Gpu): Sample {
  const [rows, columns, p, seed, step] = [8, 50, 0.25, 7, 3];
  const source = { stream: Stream.seed(seed), clock: tensor(gpu, Uint32Array.of(seed, step)), examples: 4 };
  const draw = drawOf(source, "doctor");
  const y = dropout(tensor(gpu, new Float32Array(rows * columns).fill(1), [rows, columns]), { p, draw });
  const own = Stream.seed(seed).fold("doctor");
  const expected = Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const words = own.words(Math.floor(column / 4), row % 4, Math.floor(row / 4), step);
    return (words[column % 4] as number) >= p * 2 ** 32 ? Math.fround(1 / (1 - p)) : 0;
  });
  return { y, expected, limit: 0 };
}

/** Runs every check; one that throws has failed. */
export async function runChecks(gpu: Gpu): Promise<Check[]> {
  const checks: Check[] = [];
  for (const [name, make] of Object.entries(CHECKS)) {
    const started = performance.now();
    const { y, expected, limit } = make(gpu);
    const values = await y.data();
    y.dispose();
    const error = largestError(values, expected);
    checks.push({ name, error, limit, passed: error <= limit, elapsedMs: performance.now() - started });
  }
  return checks;
}

function largestError(values: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (values.length !== expected.length) return Number.POSITIVE_INFINITY;
  let top = 0;
  let error = 0;
  for (let i = 0; i < expected.length; i++) {
    const wanted = expected[i] as number;
    top = Math.max(top, Math.abs(wanted));
    const difference = Math.abs((values[i] as number) - wanted);
    error = Math.max(error, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
  }
  return error === 0 ? 0 : error / top;
}

/** Multiplications and additions in a second of a matrix product of this size, in thousands of millions. */
export async function timeMatmul(gpu: Gpu, size = 512): Promise<{ ms: number; gflops: number }> {
  const [a, b] = ["a", "b"].map((name) => tensor(gpu, normal(size * size, name), [size, size]));
  if (!a || !b) throw new Error("doctor: no matrices");
  let ms = Number.POSITIVE_INFINITY;
  const repeats = 4;
  for (let round = 0; round < 4; round++) {
    const started = performance.now();
    const products = Array.from({ length: repeats }, () => matmul(a, b));
    const last = products[repeats - 1] as Tensor; // there are `repeats`
    await last.slice(0, 0, 1).data();
    ms = Math.min(ms, (performance.now() - started) / repeats);
    for (const y of products) y.dispose();
  }
  a.dispose();
  b.dispose();
  return { ms, gflops: (2 * size ** 3) / ms / 1e6 };
}
