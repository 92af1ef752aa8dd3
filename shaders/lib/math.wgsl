// Functions that hold on every driver. T is vec4f or f32 (lib/vec4, lib/scalar).
// The built-in tanh overflows on one software driver, and WGSL has no erf.

// tanh x = sign(x) (1 - e) / (1 + e), e = exp(-2|x|); near 0 its odd series, where 1 - e cancels.
fn tanh_safe(x: T) -> T {
  let a = abs(x);
  let e = exp(-2.0 * min(a, T(20.0)));
  let s = x * x;
  let near = x * (1.0 + s * (-0.33333334 + s * (0.13333334 + s * (-0.053968254 + s * 0.021869488))));
  return select(sign(x) * ((1.0 - e) / (1.0 + e)), near, a < T(0.3));
}

fn sigmoid(x: T) -> T {
  let e = exp(-abs(x));
  let p = 1.0 / (1.0 + e);
  return select(p, e * p, x < T(0.0));
}

// Two branches: x P(x²) below 1, 1 - exp(Q(x)) above. Coefficients: bench/workbench/erf/fit.ts.
fn erf(x: T) -> T {
  let a = min(abs(x), T(4.0));
  let s = a * a;
  let p = 1.1283791 + s * (-0.37612626 + s * (0.11283594 + s * (-0.026854211
        + s * (0.0051890872 + s * (-0.00080168643 + s * 0.000078758749)))));
  let q = -0.00076589757 + a * (-1.1258937 + a * (-0.63914126 + a * (-0.10328112
        + a * (0.022604773 + a * (-0.0034323514 + a * (0.00031693705 + a * -0.000013272363))))));
  return sign(x) * select(1.0 - exp(q), a * p, a < T(1.0));
}

// Exact GELU: x Φ(x), Φ the normal distribution function.
fn gelu(x: T) -> T { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
fn gelu_slope(x: T) -> T {
  return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x);
}

// Its tanh approximation, of GPT-2: x sigmoid(2u), u = sqrt(2/π) (x + 0.044715 x³).
fn gelu_tanh(x: T) -> T { return x * sigmoid(1.5957691 * (x + 0.044715 * x * x * x)); }
fn gelu_tanh_slope(x: T) -> T {
  let p = sigmoid(1.5957691 * (x + 0.044715 * x * x * x));
  return p + x * p * (1.0 - p) * 1.5957691 * (1.0 + 0.134145 * x * x);
}

// log(1 + e^x), without overflow.
fn softplus(x: T) -> T { return max(x, T(0.0)) + log(1.0 + exp(-abs(x))); }
