// 32-bit elements of any type as whole numbers in their order, so that comparing them is exact on every driver: no
// subnormal is flushed, and NaN, which comparisons of floats lose, has a place. `kind` says what the words are.
const FLOATS: u32 = 0u;
const WHOLE: u32 = 1u; // i32
const NATURAL: u32 = 2u; // u32 and bool
const MAGNITUDES: u32 = 3u; // floats without their sign
const LAST: i32 = 0x7fffffff;

fn is_nan(word: u32, kind: u32) -> bool {
  return (kind == FLOATS || kind == MAGNITUDES) && (word & 0x7fffffffu) > 0x7f800000u;
}

// NaN is the largest, -0 just below 0.
fn order_key(word: u32, kind: u32) -> i32 {
  if (is_nan(word, kind)) { return LAST; }
  let key = bitcast<i32>(word);
  switch kind {
    case WHOLE: { return key; }
    case NATURAL: { return bitcast<i32>(word ^ 0x80000000u); }
    case MAGNITUDES: { return key & LAST; }
    default: { return key ^ ((key >> 31u) & LAST); }
  }
}

// The word of a key; a NaN for LAST.
fn key_word(key: i32, kind: u32) -> u32 {
  switch kind {
    case WHOLE: { return bitcast<u32>(key); }
    case NATURAL: { return bitcast<u32>(key) ^ 0x80000000u; }
    default: { return bitcast<u32>(key ^ ((key >> 31u) & LAST)); }
  }
}

// The same with -0 equal to 0, as numbers compare.
fn number_key(word: u32, kind: u32) -> i32 {
  return order_key(select(word, 0u, word == 0x80000000u && kind == FLOATS), kind);
}
