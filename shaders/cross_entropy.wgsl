// Cross-entropy with integer labels: row loss = (1-ε) (lse - x[label]) + ε (lse - mean x), lse = log Σ exp x;
// 0 where label = ignore. logits [rows, C], labels [rows] i32 -> loss [rows], lse [rows]. Probabilities are never stored.
// dx = weight dy ((softmax(x) - (1-ε) onehot - ε/C). `total` ends a mean or a sum. Reads 2, writes 1.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32, ignore: i32, smoothing: f32, mode: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<T>;
@group(0) @binding(2) var<storage, read> labels: array<i32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read> loss_saved: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> weight: array<f32>;
@group(0) @binding(8) var<storage, read> lse_saved: array<f32>;
@group(0) @binding(9) var<storage, read> weight_saved: array<f32>;
@group(0) @binding(10) var<storage, read> dy: array<f32>;
@group(0) @binding(11) var<storage, read_write> dlogits: array<T>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  let label = labels[row];
  var top = T(-3.4e38);
  for (var c = lane; c < params.columns; c += LANES) { top = max(top, logits[base + c]); }
  let maximum = row_max(fold_max(top), lane);
  var sum = T(0.0);
  var shifted = T(0.0);
  var hit = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) {
    let x = logits[base + c] - maximum;
    sum += exp(x);
    shifted += x;
    hit += is_place(c * WIDTH + places(), u32(label)) * x;
  }
  let log_sum = log(row_sum(fold_sum(sum), lane));
  let wanted = row_sum(fold_sum(hit), lane);
  let average = row_sum(fold_sum(shifted), lane) / f32(params.columns * WIDTH);
  if (lane == 0u) {
    let e = params.smoothing;
    loss[row] = select((1.0 - e) * (log_sum - wanted) + e * (log_sum - average), 0.0, label == params.ignore);
    lse[row] = maximum + log_sum;
  }
}

// mode 0: mean over the rows that count; 1: sum. weight: what the gradient of one row is multiplied with.
@compute @workgroup_size(LANES)
fn total(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var count = 0.0;
  for (var block = lane; block < params.rows; block += 32u * LANES) {
    var part = 0.0;
    for (var r = block; r < min(block + 32u * LANES, params.rows); r += LANES) {
      part += loss_saved[r];
      count += select(1.0, 0.0, labels[r] == params.ignore);
    }
    sum += part;
  }
  let all = row_sum(sum, lane);
  let n = select(1.0, row_sum(count, lane), params.mode == 0u);
  if (lane == 0u) {
    y[0] = all / n;
    weight[0] = 1.0 / n;
  }
}

// mode 2: dy has one element per row and there is no weight; else dy is a scalar.
@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  let label = labels[row];
  var scale = 0.0;
  if (label != params.ignore) {
    if (params.mode == 2u) { scale = dy[row]; } else { scale = dy[0] * weight_saved[0]; }
  }
  let e = params.smoothing;
  let log_sum = lse_saved[row];
  let spread = e / f32(params.columns * WIDTH);
  for (var c = lane; c < params.columns; c += LANES) {
    let p = exp(logits[base + c] - log_sum);
    dlogits[base + c] = scale * (p - (1.0 - e) * is_place(c * WIDTH + places(), u32(label)) - spread);
  }
}
