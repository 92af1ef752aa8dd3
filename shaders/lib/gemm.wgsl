// What every matrix product kernel is told: c[i] = scale op(a[i]) op(b[i]) (+ bias), op transposing or not.
//   i < batch lies at (i div inner) · stride_a + (i mod inner) · inner_a, and likewise b and c (in floats; 0: shared).
//   So the heads of attention are slices of the channels, with `inner` = heads.
//   Element (m, k) of op(a) is at m · a_row + k · a_column; (k, n) of op(b) at k · b_row + n · b_column; rows of c are c_row apart.
//   routed 1: b and bias are banks of experts, and b[i] is expert route[i]                 (forward, dx of a bank)
//   routed 2: c[i] is an expert; its sum runs over the groups g with route[g] = i, a and b of group g
//             at g · stride_a, g · stride_b                                                (dweight of a bank)
struct Params {
  M: u32, N: u32, K: u32, stride_a: u32, stride_b: u32, stride_c: u32, stride_bias: u32,
  inner: u32, inner_a: u32, inner_b: u32, inner_c: u32,
  has_bias: u32, routed: u32, groups: u32,
  a_row: u32, a_column: u32, b_row: u32, b_column: u32, c_row: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> route: array<i32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

fn group_count() -> u32 { return select(1u, params.groups, params.routed == 2u); }
fn takes_part(g: u32, batch: u32) -> bool { return params.routed != 2u || u32(route[g]) == batch; }
fn a_start(batch: u32, g: u32) -> u32 {
  if (params.routed == 2u) { return g * params.stride_a; }
  return (batch / params.inner) * params.stride_a + (batch % params.inner) * params.inner_a;
}
fn b_index(batch: u32, g: u32) -> u32 {
  if (params.routed == 1u) { return u32(route[batch]); }
  return select(batch / params.inner, g, params.routed == 2u);
}
fn b_start(batch: u32, g: u32) -> u32 { return b_index(batch, g) * params.stride_b + (batch % params.inner) * params.inner_b; }
fn c_start(batch: u32) -> u32 { return (batch / params.inner) * params.stride_c + (batch % params.inner) * params.inner_c; }
fn bias_at(batch: u32, column: u32) -> f32 {
  if (params.has_bias == 0u) { return 0.0; }
  return bias[b_index(batch, 0u) * params.stride_bias + column];
}
