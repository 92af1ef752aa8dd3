// Bits of bf16: the upper half of an f32. lib/halves has the same names for f16.
fn half_to_f32(half: u32) -> u32 { return half << 16u; }

fn f32_to_half(word: u32) -> u32 {
  if ((word & 0x7fffffffu) > 0x7f800000u) { return (word >> 16u) | 0x40u; }
  return (word + 0x7fffu + ((word >> 16u) & 1u)) >> 16u;
}
