const TWO_OVER_ROOT_PI = 1.1283791670955126;

/** erf(x) = 2/√π ∫₀ˣ exp(-t²) dt, to about 1e-15. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  if (Math.abs(x) < 2) return series(x);
  return x > 0 ? 1 - tail(x) : tail(-x) - 1;
}

/** erfc(x) = 1 - erf(x), to about 1e-16 below 2 and to a relative 1e-14 above. */
export function erfc(x: number): number {
  if (Number.isNaN(x)) return x;
  if (Math.abs(x) < 2) return 1 - series(x);
  return x > 0 ? tail(x) : 2 - tail(-x);
}

/** 2/√π exp(-x²) Σ 2ⁿ x^(2n+1) / (2n+1)!!: all terms have one sign. */
function series(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return TWO_OVER_ROOT_PI * Math.exp(-x * x) * sum;
}

/** erfc for x >= 2: exp(-x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))), evaluated from below. */
function tail(x: number): number {
  let below = x;
  for (let k = 80; k >= 1; k--) below = x + k / 2 / below;
  return ((TWO_OVER_ROOT_PI / 2) * Math.exp(-x * x)) / below;
}
