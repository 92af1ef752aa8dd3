/**
 * Fits the two branches of `erf` in shaders/lib/math.wgsl and prints their coefficients.
 *   node --import tsx bench/workbench/erf/fit.ts
 * |x| < 1: erf(x) = x P(x²). |x| in [1, 4]: erfc(x) = exp(Q(x)). Chebyshev interpolation in float64,
 * turned into powers. Prints the largest error after rounding the coefficients to float32.
 */
function erf(x: number): number {
  // Maclaurin series; 80 terms are exact to float64 below 3, beyond that a continued fraction for erfc.
  if (x < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 120; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  return 1 - erfc(x);
}

function erfc(x: number): number {
  if (x < 2.5) return 1 - erf(x);
  let f = 0;
  for (let n = 200; n > 0; n--) f = n / 2 / (x + f);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + f);
}

function chebyshevPowers(f: (t: number) => number, from: number, to: number, degree: number): number[] {
  const n = degree + 1;
  const nodes = Array.from({ length: n }, (_, i) => Math.cos((Math.PI * (i + 0.5)) / n));
  const xs = nodes.map((t) => ((to - from) * t + to + from) / 2);
  // Newton's divided differences, expanded to powers.
  const d = xs.map(f);
  for (let j = 1; j < n; j++) {
    for (let i = n - 1; i >= j; i--)
      d[i] = ((d[i] as number) - (d[i - 1] as number)) / ((xs[i] as number) - (xs[i - j] as number));
  }
  let powers = [d[n - 1] as number];
  for (let i = n - 2; i >= 0; i--) {
    const next = new Array<number>(powers.length + 1).fill(0);
    powers.forEach((p, k) => {
      next[k] = (next[k] as number) - p * (xs[i] as number);
      next[k + 1] = (next[k + 1] as number) + p;
    });
    next[0] = (next[0] as number) + (d[i] as number);
    powers = next;
  }
  return powers;
}

const f32 = Math.fround;
const horner = (powers: readonly number[], x: number): number =>
  powers.reduceRight((sum, p) => f32(f32(sum * x) + f32(p)), 0);

const small = chebyshevPowers(
  (s) => (s < 1e-12 ? 2 / Math.sqrt(Math.PI) : erf(Math.sqrt(s)) / Math.sqrt(s)),
  0,
  1,
  6,
);
const large = chebyshevPowers((x) => Math.log(erfc(x)), 1, 4, 7);
console.log(
  "P",
  small.map((p) => f32(p)),
);
console.log(
  "Q",
  large.map((p) => f32(p)),
);
let worst = 0;
for (let i = 0; i <= 400_000; i++) {
  const x = f32(i / 100_000);
  const got = x < 1 ? f32(x * horner(small, f32(x * x))) : f32(1 - f32(Math.exp(horner(large, x))));
  const error = Math.abs(got - erf(x));
  if (error > worst) worst = error;
}
console.log("largest absolute error", worst, "=", worst / 2 ** -24, "units of 2^-24");
