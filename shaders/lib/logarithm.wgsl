// Logarithms to 2 ULP on every driver; built-in ones are off by 2^-21 near 1, and log 0 and log -1 are numbers on one.
// x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt 2). T is vec4f or f32 (lib/vec4, lib/scalar).
struct Split { k: T, f: T }

fn split(x: T) -> Split {
  let bits = bitcast<Bits>(x) & Bits(0x7fffffffu);
  // Subnormal numbers are shifted until their leading bit is where others hide it.
  let shift = select(Bits(0u), countLeadingZeros(bits) - 8u, bits < Bits(0x00800000u));
  let word = bits << shift;
  let k = bitcast<Whole>(word - 0x3f3504f3u) >> Bits(23u);
  return Split(T(k - Whole(shift)), bitcast<T>(word - bitcast<Bits>(k << Bits(23u))) - 1.0);
}

// log(1 + f) = f - f²/2 + s (f²/2 + R), s = f / (2 + f), R = 2 s² / 3 + 2 s⁴ / 5 + ...: what the division loses is small.
fn log_near(f: T) -> T {
  let s = f / (2.0 + f);
  let z = s * s;
  let r = z * (0.66666667 + z * (0.4 + z * (0.28571429 + z * 0.22222222)));
  let half_square = 0.5 * f * f;
  return f - (half_square - s * (half_square + r));
}

// What no polynomial gives: -Inf at 0, NaN below, Inf at Inf. By bits: constants may not be infinite.
fn log_edges(x: T, inside: T) -> T {
  let bits = bitcast<Bits>(x);
  var result = select(inside, x, bits == Bits(0x7f800000u));
  result = select(result, bitcast<T>(bits | Bits(0xffc00000u)), bits > Bits(0x80000000u));
  return select(result, bitcast<T>(bits | Bits(0xff800000u)), (bits << Bits(1u)) == Bits(0u));
}

fn log_of(x: T) -> T {
  let p = split(x);
  return log_edges(x, p.k * 0.69313812 + (log_near(p.f) + p.k * 9.0580006e-6)); // log 2 in two parts
}

fn log2_of(x: T) -> T {
  let p = split(x);
  return log_edges(x, p.k + log_near(p.f) * 1.44269504);
}

// log(1 + x): exact near 0, where 1 + x is not.
fn log1p_of(x: T) -> T {
  return select(log_of(1.0 + x), log_near(x), (x > T(-0.29)) & (x < T(0.41)));
}

// exp(x) - 1: near 0 by its series, where the difference cancels.
fn expm1_of(x: T) -> T {
  let near = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666667 + x * (0.0083333333
           + x * (0.0013888889 + x * (0.00019841270 + x * 0.000024801587)))))));
  return select(exp(x) - 1.0, near, abs(x) < T(0.5));
}
