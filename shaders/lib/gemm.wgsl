// What every matrix product kernel is told: c[i] = f(z[i]), z[i] = scale op(a[i]) op(b[i]) (+ bias), op transposing or not,
// f the identity, an activation, or an addition to what is there (lib/gemm_store and what takes its place).
//   i < batch lies at start_a + (i div inner) · stride_a + (i mod inner) · inner_a, and likewise c (in floats; 0: shared).
//   b: the same with ((i mod inner) div share): `share` neighbours have one b. So the heads of attention are slices of
//   the channels with `inner` = heads, and grouped heads share keys and values.
//   sums > 1: z[i] is the sum over g < sums of products whose a and b lie g · sum_a, g · sum_b further on.
//   Element (m, k) of op(a) is at m · a_row + k · a_column; (k, n) of op(b) at k · b_row + n · b_column; rows of c are c_row apart.
//   routed 1: b and bias are banks of experts, and b[i] is expert route[i]                 (forward, dx of a bank)
//   routed 2: c[i div inner] is an expert; its sum runs over those g with route[g] = that  (dweight of a bank)
// use: lib/grid
struct Params {
  M: u32, N: u32, K: u32, start_a: u32, start_b: u32, start_c: u32,
  stride_a: u32, stride_b: u32, stride_c: u32, stride_bias: u32,
  inner: u32, inner_a: u32, inner_b: u32, inner_c: u32, share: u32,
  sums: u32, sum_a: u32, sum_b: u32, first: u32, has_bias: u32, routed: u32, activation: u32, keeps_z: u32,
  a_row: u32, a_column: u32, b_row: u32, b_column: u32, c_row: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> route: array<i32>;

struct Tile { batch: u32, row: u32, column: u32 }

// The tile of a workgroup: which product, its first row and column. Tiles of `rows` x `columns` lie row by row in the
// grid's x and y, products in z from `first` on. The grid may hold a few tiles beyond the last row.
fn tile_of(group: vec3u, groups: vec3u, rows: u32, columns: u32) -> Tile {
  let across = (params.N + columns - 1u) / columns;
  let i = unfold(group, groups);
  return Tile(params.first + group.z, i / across * rows, i % across * columns);
}

fn takes_part(g: u32, batch: u32) -> bool { return params.routed != 2u || u32(route[g]) == batch / params.inner; }
fn a_start(batch: u32, g: u32) -> u32 {
  return params.start_a + (batch / params.inner) * params.stride_a + (batch % params.inner) * params.inner_a + g * params.sum_a;
}
fn b_index(batch: u32) -> u32 {
  if (params.routed == 1u) { return u32(route[batch]); }
  return batch / params.inner;
}
fn b_start(batch: u32, g: u32) -> u32 {
  return params.start_b + b_index(batch) * params.stride_b + (batch % params.inner) / params.share * params.inner_b + g * params.sum_b;
}
fn c_start(batch: u32) -> u32 {
  return params.start_c + (batch / params.inner) * params.stride_c + (batch % params.inner) * params.inner_c;
}
// Of columns n to n + 3; those from N on are of no use to anyone.
fn bias_from(batch: u32, n: u32) -> vec4f {
  if (params.has_bias == 0u) { return vec4f(0.0); }
  let at = b_index(batch) * params.stride_bias + n;
  return vec4f(bias[at], bias[at + 1u], bias[at + 2u], bias[at + 3u]);
}
// 0 where k is beyond the sum: not 0 times what happens to lie there, which may be Inf.
fn in_sum(k: u32, v: vec4f) -> vec4f { return select(vec4f(0.0), v, k < params.K); }
