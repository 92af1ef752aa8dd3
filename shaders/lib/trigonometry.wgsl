// sin and cos to 2 ULP for every f32; the built-in ones are off by 1.9e-4 on one driver, and lose large arguments.
// x · 2/π modulo 4 in whole numbers (Payne and Hanek): the bits of 2/π that matter to x are multiplied with its
// fraction, so nothing cancels and no compiler can reorder it.
// use: lib/philox

// 32 zeros, then 2/π in binary.
const TWO_OVER_PI = array<u32, 8>(0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu);

// x = quarter · π/2 + rest, |rest| <= π/4.
struct Angle { quarter: u32, rest: f32 }

fn angle(x: f32) -> Angle {
  let bits = bitcast<u32>(x) & 0x7fffffffu;
  if (bits < 0x3f490fdbu) { return Angle(0u, x); }
  // x = m 2^(offset - 30): of m · 2/π, 96 bits from there on are modulo 4, two before the point and 94 behind it.
  let m = (bits & 0x7fffffu) | 0x800000u;
  let offset = min(bits >> 23u, 254u) - 120u;
  let w = offset / 32u;
  let s = offset % 32u;
  let a = window(w, s);
  let b = window(w + 1u, s);
  let c = window(w + 2u, s);
  let low = m * c;
  let middle_part = m * b;
  let middle = middle_part + multiply_high(m, c);
  let carry = select(0u, 1u, middle < middle_part);
  let high = m * a + multiply_high(m, b) + carry;
  var quarter = high >> 30u;
  var fraction = vec2u((high << 2u) | (middle >> 30u), (middle << 2u) | (low >> 30u));
  let negative = fraction.x >= 0x80000000u;
  if (negative) {
    quarter += 1u;
    fraction = ~fraction;
  }
  // fraction · π/2, rounded after its leading zeros are gone.
  let tiny = fraction.x == 0u;
  if (tiny) { fraction = vec2u(fraction.y, low << 2u); }
  let zeros = min(countLeadingZeros(fraction.x), 31u);
  let top = (fraction.x << zeros) | select(0u, fraction.y >> (32u - zeros), zeros > 0u);
  let rest = f32(top) * bitcast<f32>((select(95u, 63u, tiny) - zeros) << 23u) * 1.57079633;
  let positive = (bitcast<u32>(x) >> 31u) == 0u;
  return Angle(select(0u - quarter, quarter, positive), select(rest, -rest, negative == positive));
}

fn window(word: u32, shift: u32) -> u32 {
  return (TWO_OVER_PI[word] << shift) | select(0u, TWO_OVER_PI[min(word + 1u, 7u)] >> (32u - shift), shift > 0u);
}

fn sine_of(a: Angle) -> f32 {
  let r = a.rest;
  let z = r * r;
  let s = r + r * z * (-0.16666667 + z * (0.0083333333 + z * (-0.00019841270 + z * 0.0000027557319)));
  let c = 1.0 - 0.5 * z + z * z * (0.041666667 + z * (-0.0013888889 + z * (0.000024801587 - z * 2.7557319e-7)));
  let value = select(s, c, (a.quarter & 1u) == 1u);
  return select(value, -value, (a.quarter & 2u) == 2u);
}

// sin(x + turns · π/2); NaN where x is infinite.
fn sine(x: vec4f, turns: u32) -> vec4f {
  var value = vec4f();
  for (var i = 0u; i < 4u; i++) {
    let a = angle(x[i]);
    value[i] = sine_of(Angle(a.quarter + turns, a.rest));
  }
  let bits = bitcast<vec4u>(x);
  return select(value, bitcast<vec4f>(bits | vec4u(0x7fc00000u)), (bits & vec4u(0x7fffffffu)) == vec4u(0x7f800000u));
}
