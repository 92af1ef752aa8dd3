// Bits of f16 and bf16 in whole numbers, the same on every driver; lib/brain has the same names for bf16.
// f16: 1 sign, 5 exponent, 10 fraction bits. Subnormal halves are normal as f32.
fn half_to_f32(half: u32) -> u32 {
  let sign = (half & 0x8000u) << 16u;
  let rest = half & 0x7fffu;
  if (rest >= 0x7c00u) { return sign | 0x7f800000u | ((rest & 0x3ffu) << 13u); }
  if (rest >= 0x400u) { return sign | ((rest << 13u) + 0x38000000u); }
  if (rest == 0u) { return sign; }
  // fraction · 2^-24: the leading bit becomes the hidden one.
  let top = firstLeadingBit(rest);
  return sign | ((top + 103u) << 23u) | ((rest << (23u - top)) & 0x7fffffu);
}

fn f32_to_half(word: u32) -> u32 {
  let sign = (word >> 16u) & 0x8000u;
  let rest = word & 0x7fffffffu;
  if (rest > 0x7f800000u) { return sign | 0x7e00u; }
  if (rest >= 0x477ff000u) { return sign | 0x7c00u; }
  if (rest >= 0x38800000u) { return sign | ((rest - 0x38000000u + 0xfffu + ((rest >> 13u) & 1u)) >> 13u); }
  if (rest <= 0x33000000u) { return sign; }
  // Below 2^-14: the fraction with its hidden bit, shifted to units of 2^-24.
  let shift = 126u - (rest >> 23u);
  let fraction = (rest & 0x7fffffu) | 0x800000u;
  let kept = fraction >> shift;
  let lost = fraction & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  return sign | (kept + select(0u, 1u, lost > middle || (lost == middle && (kept & 1u) == 1u)));
}
