// Cross-entropy with integer labels: row loss = (1-ε) w[l] (lse - x[l]) + ε/C Σ w (lse - x), lse = log Σ exp x, l the label;
// 0 where l = ignore, NaN where it is no class. `forward_nll` takes x as log-probabilities: -w[l] x[l].
// logits [rows, C], labels [rows] i32, class weights [C] or none -> loss [rows], lse [rows]. Probabilities are never stored.
// dx = weight dy ((1-ε) w[l] (softmax(x) - onehot) + ε/C (softmax(x) Σ w - w)). `total` ends a mean or a sum.
// Workgroup: one row (of the nll entries a thread: a row, or a group of columns). Reads 2, writes 1.
// use: lib/vec4
// use: lib/nan
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
@group(0) @binding(12) var<storage, read> class_weights: array<T>;
@group(0) @binding(13) var<storage, read_write> class_sum: array<f32>;
@group(0) @binding(14) var<storage, read> class_sum_saved: array<f32>;

// Specialised where classes have weights: src/ops/cross-entropy.ts.
fn class_weight(c: u32) -> T { return T(1.0); }
fn label_weight(label: u32) -> f32 { return 1.0; }
fn all_weights() -> f32 { return f32(classes()); }

fn classes() -> u32 { return params.columns * WIDTH; }
fn is_class(label: i32) -> bool { return u32(label) < classes(); }
// The label, or some class for rows that have none: what is read there does not count.
fn class_of(label: i32) -> u32 { return min(u32(label), classes() - 1u); }

// WGSL has no constant for it.
fn not_a_number() -> f32 {
  var bits = 0x7fc00000u;
  return bitcast<f32>(bits);
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var top = T(-3.4e38);
  for (var c = lane; c < params.columns; c += LANES) { top = max(top, logits[base + c]); }
  let maximum = row_max(fold_max(top), lane);
  var sum = T(0.0);
  var shifted = T(0.0);
  var weights = T(0.0);
  for (var block = lane; block < params.columns; block += 32u * LANES) {
    var part = T(0.0);
    var shifted_part = T(0.0);
    for (var c = block; c < min(block + 32u * LANES, params.columns); c += LANES) {
      let x = logits[base + c] - maximum;
      part += exp_nan(x);
      shifted_part += class_weight(c) * x;
      weights += class_weight(c);
    }
    sum += part;
    shifted += shifted_part;
  }
  let log_sum = log_nan(row_sum(fold_sum(sum), lane));
  let all_shifted = row_sum(fold_sum(shifted), lane);
  let all = row_sum(fold_sum(weights), lane);
  if (lane != 0u) { return; }
  let label = labels[row];
  let e = params.smoothing;
  let own = class_of(label);
  let wanted = element(logits[base + own / WIDTH], own % WIDTH) - maximum;
  var row_loss = (1.0 - e) * label_weight(own) * (log_sum - wanted);
  // Left out at 0: a logit of -inf would make it 0 · inf.
  if (e > 0.0) { row_loss += e * (log_sum * all - all_shifted) / f32(classes()); }
  if (!is_class(label)) { row_loss = not_a_number(); }
  loss[row] = select(row_loss, 0.0, label == params.ignore);
  lse[row] = maximum + log_sum;
  if (row == 0u) { class_sum[0] = all; }
}

@compute @workgroup_size(64)
fn forward_nll(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups) * 64u + lane;
  if (row >= params.rows) { return; }
  let label = labels[row];
  let own = class_of(label);
  var row_loss = -label_weight(own) * element(logits[row * params.columns + own / WIDTH], own % WIDTH);
  if (!is_class(label)) { row_loss = not_a_number(); }
  loss[row] = select(row_loss, 0.0, label == params.ignore);
}

// mode 0: mean over the rows that count, by their weights; 1: sum. weight: what the gradient of one row is multiplied with.
@compute @workgroup_size(LANES)
fn total(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var count = 0.0;
  for (var block = lane; block < params.rows; block += 32u * LANES) {
    var part = 0.0;
    var count_part = 0.0;
    for (var r = block; r < min(block + 32u * LANES, params.rows); r += LANES) {
      part += loss_saved[r];
      count_part += select(label_weight(class_of(labels[r])), 0.0, labels[r] == params.ignore);
    }
    sum += part;
    count += count_part;
  }
  let all = row_sum(sum, lane);
  let n = select(1.0, row_sum(count, lane), params.mode == 0u);
  if (lane == 0u) {
    y[0] = all / n;
    weight[0] = 1.0 / n;
  }
}

// What a row's gradient is multiplied with. mode 2: dy has one element per row and there is no weight; else dy is a scalar.
fn row_scale(row: u32) -> f32 {
  let label = labels[row];
  if (label == params.ignore) { return 0.0; }
  if (!is_class(label)) { return not_a_number(); }
  if (params.mode == 2u) { return dy[row]; }
  return dy[0] * weight_saved[0];
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  let label = class_of(labels[row]);
  let scale = row_scale(row);
  let log_sum = lse_saved[row];
  let own = (1.0 - params.smoothing) * label_weight(label);
  let spread = params.smoothing / f32(classes());
  let share = own + spread * all_weights();
  for (var c = lane; c < params.columns; c += LANES) {
    let p = exp(logits[base + c] - log_sum);
    dlogits[base + c] = scale * (share * p - own * is_place(c * WIDTH + places(), label) - spread * class_weight(c));
  }
}

@compute @workgroup_size(64)
fn backward_nll(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.rows * params.columns) { return; }
  let row = i / params.columns;
  let label = class_of(labels[row]);
  dlogits[i] = -row_scale(row) * label_weight(label) * is_place((i % params.columns) * WIDTH + places(), label);
}
