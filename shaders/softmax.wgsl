// Softmax and log-softmax over the last dimension: y = exp(x - m) / Σ exp(x - m), y = (x - m) - log Σ exp(x - m),
// m the row's maximum, so that exp never overflows. x [rows, C] -> y [rows, C]. Workgroup: one row.
// dx = y (dy - Σ dy y) and dx = dy - exp(y) Σ dy. Reads 2 (backward 4), writes 1.
// use: lib/vec4
// use: lib/nan
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read> y_saved: array<T>;
@group(0) @binding(4) var<storage, read> dy: array<T>;
@group(0) @binding(5) var<storage, read_write> dx: array<T>;

struct Row { maximum: f32, sum: f32 }

fn measure(row: u32, lane: u32) -> Row {
  let base = row * params.columns;
  var top = T(-3.4e38);
  for (var c = lane; c < params.columns; c += LANES) { top = max(top, x[base + c]); }
  let maximum = row_max(fold_max(top), lane);
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) { sum += exp_nan(x[base + c] - maximum); }
  return Row(maximum, row_sum(fold_sum(sum), lane));
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let m = measure(row, lane);
  let scale = 1.0 / m.sum;
  for (var c = row * params.columns + lane; c < (row + 1u) * params.columns; c += LANES) { y[c] = exp(x[c] - m.maximum) * scale; }
}

@compute @workgroup_size(LANES)
fn forward_log(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let m = measure(row, lane);
  let log_sum = log_nan(m.sum);
  for (var c = row * params.columns + lane; c < (row + 1u) * params.columns; c += LANES) { y[c] = (x[c] - m.maximum) - log_sum; }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) { sum += dy[base + c] * y_saved[base + c]; }
  let total = row_sum(fold_sum(sum), lane);
  for (var c = base + lane; c < base + params.columns; c += LANES) { dx[c] = y_saved[c] * (dy[c] - total); }
}

@compute @workgroup_size(LANES)
fn backward_log(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) { sum += dy[base + c]; }
  let total = row_sum(fold_sum(sum), lane);
  for (var c = base + lane; c < base + params.columns; c += LANES) { dx[c] = dy[c] - exp(y_saved[c]) * total; }
}
