// Rotary position embedding: pairs of each head turned by the angle of their position. x [B, T, H, D] -> y, same shape;
// cosines, sines [P, R/2]. Pair i of a head is (i, i + R/2), or (2i, 2i + 1) where `interleaved`; what is behind the
// first R elements is copied. `sign` -1 turns back: the gradient. Position of row (b, t): positions[b, t], or first + t.
// A position that the tables do not hold gives NaN. rows: pairs (b, t), from first_row on.
// Thread: one pair, or one element that is copied. Reads 2 of each, writes 1. Su et al. 2021.
// use: lib/grid
struct Params {
  rows: u32, first_row: u32, tokens: u32, heads: u32, size: u32, pairs: u32, table_rows: u32, first: u32,
  has_positions: u32, interleaved: u32, sign: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> cosines: array<f32>;
@group(0) @binding(3) var<storage, read> sines: array<f32>;
@group(0) @binding(4) var<storage, read> positions: array<i32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  let slots = params.size - params.pairs;
  if (i >= params.rows * params.heads * slots) { return; }
  let slot = i % slots;
  let row = i / (slots * params.heads);
  let base = (i / slots) * params.size;
  if (slot >= params.pairs) {
    y[base + params.pairs + slot] = x[base + params.pairs + slot];
    return;
  }
  var position = params.first + (params.first_row + row) % params.tokens;
  if (params.has_positions == 1u) { position = u32(positions[row]); }
  let a = base + select(slot, 2u * slot, params.interleaved == 1u);
  let b = a + select(params.pairs, 1u, params.interleaved == 1u);
  var nan = 0x7fc00000u;
  var c = bitcast<f32>(nan);
  var s = c;
  if (position < params.table_rows) {
    c = cosines[position * params.pairs + slot];
    s = params.sign * sines[position * params.pairs + slot];
  }
  let u = x[a];
  let v = x[b];
  y[a] = u * c - v * s;
  y[b] = v * c + u * s;
}
