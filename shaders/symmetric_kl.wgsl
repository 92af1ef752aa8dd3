// Consistency of two passes (Paper: section 3.2): ½ [KL(q ‖ p) + KL(p ‖ q)], p = softmax(a), q = softmax(b),
// summed over classes, divided by rows. a, b [rows, C] -> y scalar; row losses and both lse [rows] are saved.
// With the targets detached: da = (p - q) / 2 rows. In full: da_i = ½ (p_i (t_i - Σ p t) + p_i - q_i) / rows, t = log p - log q.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
// Without the mean (each = 1) y is the row losses, and dy has one element for each row.
// all: rows of the mean; a and b may be run through in ranges of them.
struct Params { rows: u32, columns: u32, full: u32, all: u32, each: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<vec2f>;
@group(0) @binding(5) var<storage, read> loss_saved: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> lse_saved: array<vec2f>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;
@group(0) @binding(9) var<storage, read_write> da: array<T>;
@group(0) @binding(10) var<storage, read_write> db: array<T>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  var top_a = T(-3.4e38);
  var top_b = T(-3.4e38);
  for (var c = lane; c < params.columns; c += LANES) {
    top_a = max(top_a, a[base + c]);
    top_b = max(top_b, b[base + c]);
  }
  let max_a = row_max(fold_max(top_a), lane);
  let max_b = row_max(fold_max(top_b), lane);
  var sum_a = T(0.0);
  var sum_b = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) {
    sum_a += exp(a[base + c] - max_a);
    sum_b += exp(b[base + c] - max_b);
  }
  let log_a = log(row_sum(fold_sum(sum_a), lane));
  let log_b = log(row_sum(fold_sum(sum_b), lane));
  // KL(q‖p) + KL(p‖q) = Σ (p - q)(log p - log q).
  var kl = T(0.0);
  for (var c = lane; c < params.columns; c += LANES) {
    let log_p = (a[base + c] - max_a) - log_a;
    let log_q = (b[base + c] - max_b) - log_b;
    kl += (exp(log_p) - exp(log_q)) * (log_p - log_q);
  }
  let total = row_sum(fold_sum(kl), lane);
  if (lane == 0u) {
    loss[row] = 0.5 * total;
    lse[row] = vec2f(max_a + log_a, max_b + log_b);
  }
}

@compute @workgroup_size(LANES)
fn mean(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var r = lane; r < params.rows; r += LANES) { sum += loss_saved[r]; }
  let all = row_sum(sum, lane);
  if (lane == 0u) { y[0] = all / f32(params.all); }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.rows) { return; }
  let base = row * params.columns;
  let scale = 0.5 * select(dy[0] / f32(params.all), dy[row], params.each == 1u);
  let sums = lse_saved[row];
  var mean_p = 0.0;
  var mean_q = 0.0;
  if (params.full == 1u) {
    var under_p = T(0.0);
    var under_q = T(0.0);
    for (var c = lane; c < params.columns; c += LANES) {
      let log_p = a[base + c] - sums.x;
      let log_q = b[base + c] - sums.y;
      under_p += exp(log_p) * (log_p - log_q);
      under_q += exp(log_q) * (log_q - log_p);
    }
    mean_p = row_sum(fold_sum(under_p), lane);
    mean_q = row_sum(fold_sum(under_q), lane);
  }
  for (var c = lane; c < params.columns; c += LANES) {
    let log_p = a[base + c] - sums.x;
    let log_q = b[base + c] - sums.y;
    let p = exp(log_p);
    let q = exp(log_q);
    var ga = p - q;
    var gb = q - p;
    if (params.full == 1u) {
      ga += p * (log_p - log_q - mean_p);
      gb += q * (log_q - log_p - mean_q);
    }
    da[base + c] = scale * ga;
    db[base + c] = scale * gb;
  }
}
