// Powers with their signs: the built-in pow(-2, 3) is +8 on one driver, and pow(0.999, 1e4) is off by 6e-4 there.
// T is vec4f or f32 (lib/vec4, lib/scalar).
// use: lib/logarithm

// 2^t for |t| below 200: 2^f by its series, times 2^n in two steps, which reach 0 and Inf.
fn two_to(t: T) -> T {
  let n = round(t);
  let f = (t - n) * 0.69314718;
  let value = 1.0 + f * (1.0 + f * (0.5 + f * (0.16666667 + f * (0.041666667 + f * (0.0083333333 + f * 0.0013888889)))));
  let first = Whole(n) >> Bits(1u);
  let second = Whole(n) - first;
  return value * bitcast<T>((first + 127) << Bits(23u)) * bitcast<T>((second + 127) << Bits(23u));
}

// x^e = ± 2^(e log2 |x|): negative for a negative x and an odd e, NaN for a finite negative x and an e with a fraction.
fn power(x: T, e: T) -> T {
  let bits = bitcast<Bits>(x);
  let magnitude = bits & Bits(0x7fffffffu);
  let p = split(x);
  let value = two_to(clamp(e * p.k + e * (log_near(p.f) * 1.44269504), T(-200.0), T(200.0)));
  // 0 and Inf: Inf where the exponent has the other sign, else 0.
  let grows = (magnitude == Bits(0u)) != (e > T(0.0));
  let edge = bitcast<T>(select(Bits(0u), magnitude | Bits(0x7f800000u), grows));
  let infinite = magnitude == Bits(0x7f800000u);
  let positive = select(value, edge, (magnitude == Bits(0u)) | infinite);
  let whole = floor(e) == e;
  let odd = whole & (abs(e) < T(16777216.0)) & ((Whole(clamp(e, T(-16777216.0), T(16777216.0))) & Whole(1)) == Whole(1));
  let signed = bitcast<T>(bitcast<Bits>(positive) | select(Bits(0u), bits & Bits(0x80000000u), odd));
  let real = select(bitcast<T>(bits | Bits(0x7fc00000u)), signed, whole | infinite | (bits <= Bits(0x80000000u)));
  return select(real, T(1.0), e == T(0.0));
}

// x^e for one e: by products where it is a small whole number.
fn power_number(x: T, e: f32) -> T {
  let n = abs(e);
  if (n > 64.0 || floor(n) != n) { return power(x, T(e)); }
  var value = T(1.0);
  var square = x;
  for (var left = u32(n); left > 0u; left >>= 1u) {
    if ((left & 1u) == 1u) { value *= square; }
    square *= square;
  }
  return select(value, 1.0 / value, e < 0.0);
}
