// Softmax and log-softmax over the last dimension: y = exp(x - m) / Σ exp(x - m), y = (x - m) - log Σ exp(x - m),
// m the row's maximum, so that exp never overflows. x [rows, C] -> y [rows, C]. Workgroup: one row.
// dx = y (dy - Σ dy y) and dx = dy - exp(y) Σ dy. Reads 2 (backward 4, of the logarithm 3), writes 1.
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

// Both in one pass: a lane's sum shrinks when its maximum rises. Four at a time, so that it does for each fourth at most.
fn measure(row: u32, lane: u32) -> Row {
  let base = row * params.columns;
  var top = T(LOWEST);
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += 4u * LANES) {
    let v0 = value(base, c);
    let v1 = value(base, c + LANES);
    let v2 = value(base, c + 2u * LANES);
    let v3 = value(base, c + 3u * LANES);
    let higher = max(max(max(v0, v1), max(v2, v3)), top);
    sum = sum * exp(top - higher) + share(v0, higher, c) + share(v1, higher, c + LANES)
        + share(v2, higher, c + 2u * LANES) + share(v3, higher, c + 3u * LANES);
    top = higher;
  }
  let maximum = row_max(fold_max(top), lane);
  return Row(maximum, row_sum(fold_sum(sum * exp(top - maximum)), lane));
}

const LOWEST: f32 = -3.4e38;
// Beyond the row: the lowest, and no share of the sum.
fn value(base: u32, c: u32) -> T { return select(T(LOWEST), x[base + min(c, params.columns - 1u)], c < params.columns); }
fn share(v: T, maximum: T, c: u32) -> T { return select(T(0.0), exp_nan(v - maximum), c < params.columns); }

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
