// NaN on drivers that lose it: max, min, clamp, sign and exp of NaN are numbers on some, and no comparison finds one.
// Only its bits tell. T is vec4f or f32 (lib/vec4, lib/scalar).

// y, or x where that is NaN.
fn keep_nan(x: T, y: T) -> T {
  return select(y, x, (bitcast<Bits>(x) & Bits(0x7fffffffu)) > Bits(0x7f800000u));
}
