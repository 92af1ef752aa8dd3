/** What a few kernels must give, in float64 on the CPU. Arrays are row-major. */

/** a [m, k] · b [k, n] -> [m, n]. */
export function matmul(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  [m, k, n]: readonly number[],
): Float64Array {
  const [M = 0, K = 0, N = 0] = [m, k, n];
  const y = new Float64Array(M * N);
  for (let i = 0; i < M; i++)
    for (let j = 0; j < N; j++) {
      let sum = 0;
      for (let t = 0; t < K; t++) sum += at(a, i * K + t) * at(b, t * N + j);
      y[i * N + j] = sum;
    }
  return y;
}

export function softmax(x: ArrayLike<number>, columns: number): Float64Array {
  return byRow(x, columns, (row) => {
    const top = Math.max(...row);
    const powers = row.map((v) => Math.exp(v - top));
    const sum = powers.reduce((total, v) => total + v, 0);
    return powers.map((v) => v / sum);
  });
}

export function layerNorm(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  eps: number,
): Float64Array {
  return byRow(x, weight.length, (row) => {
    const mean = row.reduce((sum, v) => sum + v, 0) / row.length;
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / row.length;
    return row.map((v, j) => ((v - mean) / Math.sqrt(variance + eps)) * at(weight, j) + at(bias, j));
  });
}

/** x/2 · (1 + erf(x/√2)). */
export function gelu(x: ArrayLike<number>): Float64Array {
  return Float64Array.from(x, (v) => (v / 2) * (1 + erf(v / Math.SQRT2)));
}

/** Multi-head attention. q, k, v [B, T, C], keep [B, T] (0: padding) -> [B, T, C]. */
export function attention(
  { q, k, v, keep }: Readonly<Record<"q" | "k" | "v" | "keep", ArrayLike<number>>>,
  [batch, length, channels, heads]: readonly [number, number, number, number],
): Float64Array {
  const D = channels / heads;
  const y = new Float64Array(q.length);
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < length; i++) {
        const place = (t: number, d: number) => (b * length + t) * channels + h * D + d;
        const scores = Array.from({ length }, (_, j) => {
          if (at(keep, b * length + j) === 0) return -Infinity;
          let sum = 0;
          for (let d = 0; d < D; d++) sum += at(q, place(i, d)) * at(k, place(j, d));
          return sum / Math.sqrt(D);
        });
        const weights = softmax(scores, length);
        for (let d = 0; d < D; d++) {
          let sum = 0;
          for (let j = 0; j < length; j++) sum += at(weights, j) * at(v, place(j, d));
          y[place(i, d)] = sum;
        }
      }
  return y;
}

/** 2/√π ∫₀ˣ exp(-t²) dt by its series, whose terms have one sign; enough for |x| up to about 5. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

function byRow(x: ArrayLike<number>, columns: number, f: (row: number[]) => readonly number[]): Float64Array {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += columns)
    y.set(f(Array.from({ length: columns }, (_, j) => at(x, start + j))), start);
  return y;
}

function at(values: ArrayLike<number>, i: number): number {
  return values[i] as number; // in range by the loops' bounds
}
