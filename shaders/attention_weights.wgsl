// Attention weights of software adapters, where the products around them are matrix kernels (see shaders/attention.wgsl
// for the fused form): p = softmax(x + mask) over the keys, used = p keep / (1 - drop). x [B·H·T, S], mask [B, S] i32.
// A masked score is -1e9, so a row with every key masked attends uniformly. Workgroup: one row (b, h, i).
// dx = scale p (g - Σ g p), g = dused keep / (1 - drop). Reads 2 (backward 4), writes 1 or 2.
// use: lib/row_workgroup
// use: lib/philox
// use: lib/grid
const MASKED: f32 = -1e9;
struct Params {
  rows: u32, queries: u32, keys: u32, heads: u32, scale: f32, masked: u32, causal: u32,
  dropout: u32, threshold: u32, keep_scale: f32, stream: u32, examples: u32, first_example: u32, first_pass: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> keep: array<i32>;
@group(0) @binding(3) var<storage, read> clock: array<u32>;
@group(0) @binding(4) var<storage, read_write> used: array<f32>;
@group(0) @binding(5) var<storage, read> p: array<f32>;
@group(0) @binding(6) var<storage, read> dused: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;

fn is_masked(row: u32, j: u32) -> bool {
  let batch = row / (params.heads * params.queries);
  let padding = params.masked == 1u && keep[batch * params.keys + j] == 0;
  let future = params.causal == 1u && j > row % params.queries + params.keys - params.queries;
  return padding || future;
}

// 0 or 1 / (1 - drop), the same as in shaders/attention.wgsl.
fn kept(row: u32, j: u32) -> f32 {
  if (params.dropout == 0u) { return 1.0; }
  let per_example = params.heads * params.queries;
  let d = Draw(params.stream, params.examples, params.first_example, params.first_pass);
  let word = draw((row % per_example) * params.keys + j, row / per_example, clock[0], clock[1], d).x;
  return select(0.0, params.keep_scale, word >= params.threshold);
}

// In place: x becomes p.
@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.keys;
  var top = -3.4e38;
  for (var j = lane; j < params.keys; j += LANES) {
    let score = select(x[base + j], MASKED, is_masked(row, j));
    x[base + j] = score;
    top = max(top, score);
  }
  let maximum = row_max(top, lane);
  var part = 0.0;
  for (var j = lane; j < params.keys; j += LANES) {
    let e = exp(x[base + j] - maximum);
    x[base + j] = e;
    part += e;
  }
  let share = 1.0 / row_sum(part, lane);
  for (var j = lane; j < params.keys; j += LANES) { x[base + j] *= share; }
}

@compute @workgroup_size(LANES)
fn drop(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.keys;
  for (var j = lane; j < params.keys; j += LANES) { used[base + j] = p[base + j] * kept(row, j); }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.keys;
  var part = 0.0;
  for (var j = lane; j < params.keys; j += LANES) {
    let g = dused[base + j] * kept(row, j) * p[base + j];
    dx[base + j] = g;
    part += g;
  }
  let total = row_sum(part, lane);
  // A masked score is a constant: no gradient, also where p is not 0 because every key is masked.
  for (var j = lane; j < params.keys; j += LANES) {
    dx[base + j] = select(params.scale * (dx[base + j] - p[base + j] * total), 0.0, is_masked(row, j));
  }
}
