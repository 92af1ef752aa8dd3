// Normalisation by the root mean square over the last dimension: y = x rstd weight, rstd = 1 / sqrt(mean x² + eps).
// x [rows, C], weight [C] -> y [rows, C]; rstd [rows] is saved. Workgroup: one row.
// Forward reads 3, writes 1; backward_x reads 6, writes 1.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32, eps: f32, block: u32, parts: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> weight: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<T>;
@group(0) @binding(6) var<storage, read> rstd_saved: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<T>;
@group(0) @binding(8) var<storage, read_write> dweight: array<T>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var squares = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) { squares += x[base + c] * x[base + c]; }
  let mean = row_sum(fold_sum(squares), lane) / f32(params.columns * WIDTH);
  let scale = 1.0 / sqrt(mean + params.eps);
  for (var c = lane; c < params.columns; c += LANES) { y[base + c] = x[base + c] * scale * weight[c]; }
  if (lane == 0u) { rstd[row] = scale; }
}

// dx = rstd (g - xhat mean(g xhat)), g = dy weight, xhat = x rstd.
@compute @workgroup_size(LANES)
fn backward_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  let scale = rstd_saved[row];
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) { sum += dy[base + c] * weight[c] * (x[base + c] * scale); }
  let mean = row_sum(fold_sum(sum), lane) / f32(params.columns * WIDTH);
  for (var c = lane; c < params.columns; c += LANES) {
    dx[base + c] = scale * (dy[base + c] * weight[c] - x[base + c] * scale * mean);
  }
}

// Parts of dweight = Σ dy xhat: each of `parts` adds up `block` rows. Thread: one column of one part.
@compute @workgroup_size(64)
fn backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.parts * params.columns) { return; }
  let c = i % params.columns;
  let part = i / params.columns;
  var sum = T(0.0);
  for (var r = part * params.block; r < min((part + 1u) * params.block, params.rows); r++) {
    sum += dy[r * params.columns + c] * (x[r * params.columns + c] * rstd_saved[r]);
  }
  dweight[i] = sum;
}
