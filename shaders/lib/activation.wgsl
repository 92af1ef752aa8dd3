// Activations by number, those of src/ops/activation.ts; NaN stays NaN. A uniform switch: one pipeline for all of them.
// use: lib/vec4
// use: lib/math
// use: lib/nan
fn activated(which: u32, x: T) -> T { return keep_nan(x, activation_of(which, x)); }

fn activation_of(which: u32, x: T) -> T {
  switch (which) {
    case 1u: { return max(x, T(0.0)); }
    case 2u: { return gelu(x); }
    case 3u: { return gelu_tanh(x); }
    case 4u: { return x * sigmoid(x); }
    case 5u: { return tanh_safe(x); }
    case 6u: { return sigmoid(x); }
    default: { return x; }
  }
}
