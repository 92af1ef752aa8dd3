// Layer normalisation over the last dimension: y = (x - mean) rstd weight + bias.
// x [rows, C], weight [C], bias [C] -> y [rows, C]; mean, rstd [rows] are saved. Workgroup: one row.
// Two passes, then the mean is corrected by mean(x - mean): E[x²] - E[x]² fails when mean >> std.
// Forward reads 3, writes 1; backward_x reads 4, writes 1.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32, eps: f32, block: u32, parts: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> weight: array<T>;
@group(0) @binding(3) var<storage, read> bias: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<storage, read_write> mean: array<f32>;
@group(0) @binding(6) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<T>;
@group(0) @binding(8) var<storage, read> mean_saved: array<f32>;
@group(0) @binding(9) var<storage, read> rstd_saved: array<f32>;
@group(0) @binding(10) var<storage, read_write> dx: array<T>;
@group(0) @binding(11) var<storage, read_write> dweight: array<T>;
@group(0) @binding(12) var<storage, read_write> dbias: array<T>;
@group(0) @binding(13) var<storage, read> residual: array<T>;
@group(0) @binding(14) var<storage, read_write> total: array<T>;

// What is normalised: x, or in `forward_sum` the sum that was kept, total[i].
fn seen(i: u32) -> T { return x[i]; }

// The rest of a row, from the lane's part of its sum on.
fn normalise(row: u32, lane: u32, sum: T) {
  let base = row * params.columns;
  let n = f32(params.columns * WIDTH);
  let rough = row_sum(fold_sum(sum), lane) / n;
  var rest = T(0.0);
  var squares = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) {
    let d = seen(base + c) - rough;
    rest += d;
    squares += d * d;
  }
  let shift = row_sum(fold_sum(rest), lane) / n;
  let variance = max(row_sum(fold_sum(squares), lane) / n - shift * shift, 0.0);
  let scale = 1.0 / sqrt(variance + params.eps);
  for (var c = lane; c < params.columns; c += LANES) {
    y[base + c] = ((seen(base + c) - rough) - shift) * scale * weight[c] + bias[c];
  }
  if (lane == 0u) {
    mean[row] = rough + shift;
    rstd[row] = scale;
  }
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) { sum += x[base + c]; }
  normalise(row, lane, sum);
}

// The same of x + residual, whose sum is kept: total. Reads 6, writes 2.
@compute @workgroup_size(LANES)
fn forward_sum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var sum = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) {
    let v = x[base + c] + residual[base + c];
    total[base + c] = v;
    sum += v;
  }
  normalise(row, lane, sum);
}

// dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight, xhat = (x - mean) rstd.
@compute @workgroup_size(LANES)
fn backward_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  let n = f32(params.columns * WIDTH);
  let mu = mean_saved[row];
  let scale = rstd_saved[row];
  var sum_g = T(0.0);
  var sum_gx = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) {
    let g = dy[base + c] * weight[c];
    sum_g += g;
    sum_gx += g * ((x[base + c] - mu) * scale);
  }
  let mean_g = row_sum(fold_sum(sum_g), lane) / n;
  let mean_gx = row_sum(fold_sum(sum_gx), lane) / n;
  for (var c = lane; c < params.columns; c += LANES) {
    let xhat = (x[base + c] - mu) * scale;
    dx[base + c] = scale * (dy[base + c] * weight[c] - mean_g - xhat * mean_gx);
  }
}

// Parts of dweight = Σ dy xhat and dbias = Σ dy: each of `parts` adds up `block` rows. Thread: one column of one part.
@compute @workgroup_size(64)
fn backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.parts * params.columns) { return; }
  let c = i % params.columns;
  let part = i / params.columns;
  var dw = T(0.0);
  var db = T(0.0);
  for (var r = part * params.block; r < min((part + 1u) * params.block, params.rows); r++) {
    let g = dy[r * params.columns + c];
    db += g;
    dw += g * ((x[r * params.columns + c] - mean_saved[r]) * rstd_saved[r]);
  }
  dweight[i] = dw;
  dbias[i] = db;
}
