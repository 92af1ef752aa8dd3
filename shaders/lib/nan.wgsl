// NaN on drivers that lose it: max, min, clamp, sign and exp of NaN are numbers on some, and no comparison finds one.
// Only its bits tell. T is vec4f or f32 (lib/vec4, lib/scalar).

// The value of a function at x, or x where that is NaN.
fn keep_nan(x: T, value: T) -> T {
  return select(value, x, (bitcast<Bits>(x) & Bits(0x7fffffffu)) > Bits(0x7f800000u));
}

// exp and log, which make numbers of NaN on one driver.
fn exp_nan(x: T) -> T { return keep_nan(x, exp(x)); }
fn log_nan(x: f32) -> f32 { return select(log(x), x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u); }
