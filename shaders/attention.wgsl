// Attention without the [T, S] matrix: y_i = Σ_j p_ij v_j, p_i = softmax_j(scale q_i·k_j + mask).
// q [B, T, H·D], k, v [B, S, H·D], keep [B, S] i32 (0: padding) -> y [B, T, H·D]. Saved for each query of each head:
// measure = (m, 1 / Σ_j exp(s_j - m)), m the largest score. Not m + log Σ: the sum of a masked row drowns in -1e9.
// Heads are slices of the channels: nothing is permuted. A masked score is -1e9, so a row with every key masked
// attends uniformly. Thread: one query (or one key) of one head, streaming over the others; the running maximum
// rescales the sum when it rises. Backward computes p from them again: dv_j = Σ_i p_ij dy_i, ds_ij = p_ij (dy_i·v_j - δ_i),
// δ_i = dy_i·y_i, dq_i = scale Σ_j ds_ij k_j, dk_j = scale Σ_i ds_ij q_i.
// use: lib/vec4
// use: lib/philox
// use: lib/grid
const GROUPS: u32 = 4u; // head size D in groups of WIDTH
const MASKED: f32 = -1e9;
struct Params {
  batch: u32, queries: u32, keys: u32, heads: u32, scale: f32, masked: u32, causal: u32,
  dropout: u32, threshold: u32, keep_scale: f32, stream: u32, examples: u32, first_example: u32, first_pass: u32, dv_start: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(4) var<storage, read> keep: array<i32>;
@group(0) @binding(5) var<storage, read> clock: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<T>;
@group(0) @binding(7) var<storage, read_write> measure: array<vec2f>;
@group(0) @binding(8) var<storage, read> measure_saved: array<vec2f>;
@group(0) @binding(9) var<storage, read> dy: array<T>;
@group(0) @binding(10) var<storage, read> y_saved: array<T>;
// (m, 1 / Σ, δ) of each query.
@group(0) @binding(11) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(12) var<storage, read> sums_saved: array<vec4f>;
@group(0) @binding(13) var<storage, read_write> dq: array<T>;
// dk, then from group `dv_start` on dv: eight storage buffers are all that a kernel may bind.
@group(0) @binding(14) var<storage, read_write> dkv: array<T>;

struct Place { batch: u32, head: u32, index: u32 }

fn place(i: u32, length: u32) -> Place { return Place(i / (params.heads * length), (i / length) % params.heads, i % length); }

// First group of row `index` of head `head`.
fn start(batch: u32, length: u32, index: u32, head: u32) -> u32 { return ((batch * length + index) * params.heads + head) * GROUPS; }

// The score of a query and a key once scaled. Queries are the last of the keys where their numbers differ.
fn masked_score(score: f32, batch: u32, i: u32, j: u32) -> f32 {
  let padding = params.masked == 1u && keep[batch * params.keys + j] == 0;
  let future = params.causal == 1u && j > i + params.keys - params.queries;
  return select(score * params.scale, MASKED, padding || future);
}

// 0 or 1 / (1 - p) for the attention weight (i, j).
fn kept(at: Place, i: u32, j: u32) -> f32 {
  if (params.dropout == 0u) { return 1.0; }
  let element = (at.head * params.queries + i) * params.keys + j;
  let d = Draw(params.stream, params.examples, params.first_example, params.first_pass);
  let word = draw(element, at.batch, clock[0], clock[1], d).x;
  return select(0.0, params.keep_scale, word >= params.threshold);
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= params.batch * params.heads * params.queries) { return; }
  let at = place(thread, params.queries);
  let mine = start(at.batch, params.queries, at.index, at.head);
  var query: array<T, GROUPS>;
  var sum_v: array<T, GROUPS>;
  for (var g = 0u; g < GROUPS; g++) {
    query[g] = q[mine + g];
    sum_v[g] = T(0.0);
  }
  var maximum = -3.4e38;
  var sum = 0.0;
  for (var j = 0u; j < params.keys; j++) {
    let theirs = start(at.batch, params.keys, j, at.head);
    var dots = 0.0;
    for (var g = 0u; g < GROUPS; g++) { dots += inner(query[g], k[theirs + g]); }
    let score = masked_score(dots, at.batch, at.index, j);
    if (score > maximum) {
      let shrink = exp(maximum - score);
      sum *= shrink;
      for (var g = 0u; g < GROUPS; g++) { sum_v[g] *= shrink; }
      maximum = score;
    }
    let weight = exp(score - maximum);
    sum += weight;
    let used = weight * kept(at, at.index, j);
    for (var g = 0u; g < GROUPS; g++) { sum_v[g] += used * v[theirs + g]; }
  }
  for (var g = 0u; g < GROUPS; g++) { y[mine + g] = sum_v[g] / sum; }
  measure[thread] = vec2f(maximum, 1.0 / sum);
}

// δ beside what forward saved. Thread: one query.
@compute @workgroup_size(64)
fn backward_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= params.batch * params.heads * params.queries) { return; }
  let at = place(thread, params.queries);
  let mine = start(at.batch, params.queries, at.index, at.head);
  var delta = 0.0;
  for (var g = 0u; g < GROUPS; g++) { delta += inner(dy[mine + g], y_saved[mine + g]); }
  sums[thread] = vec4f(measure_saved[thread], delta, 0.0);
}

// Thread: one query.
@compute @workgroup_size(64)
fn backward_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= params.batch * params.heads * params.queries) { return; }
  let at = place(thread, params.queries);
  let mine = start(at.batch, params.queries, at.index, at.head);
  var query: array<T, GROUPS>;
  var gradient: array<T, GROUPS>;
  var sum_k: array<T, GROUPS>;
  for (var g = 0u; g < GROUPS; g++) {
    query[g] = q[mine + g];
    gradient[g] = dy[mine + g];
    sum_k[g] = T(0.0);
  }
  let own = sums_saved[thread];
  for (var j = 0u; j < params.keys; j++) {
    let theirs = start(at.batch, params.keys, j, at.head);
    var dots = 0.0;
    var dp = 0.0;
    for (var g = 0u; g < GROUPS; g++) {
      dots += inner(query[g], k[theirs + g]);
      dp += inner(gradient[g], v[theirs + g]);
    }
    let score = masked_score(dots, at.batch, at.index, j);
    let p = exp(score - own.x) * own.y;
    // A masked score is a constant: no gradient, also where p is not 0 because every key is masked.
    let ds = select(params.scale * p * (dp * kept(at, at.index, j) - own.z), 0.0, score == MASKED);
    for (var g = 0u; g < GROUPS; g++) { sum_k[g] += ds * k[theirs + g]; }
  }
  for (var g = 0u; g < GROUPS; g++) { dq[mine + g] = sum_k[g]; }
}

// dk and dv. Thread: one key.
@compute @workgroup_size(64)
fn backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= params.batch * params.heads * params.keys) { return; }
  let at = place(thread, params.keys);
  let mine = start(at.batch, params.keys, at.index, at.head);
  var key: array<T, GROUPS>;
  var value: array<T, GROUPS>;
  var sum_q: array<T, GROUPS>;
  var sum_dy: array<T, GROUPS>;
  for (var g = 0u; g < GROUPS; g++) {
    key[g] = k[mine + g];
    value[g] = v[mine + g];
    sum_q[g] = T(0.0);
    sum_dy[g] = T(0.0);
  }
  for (var i = 0u; i < params.queries; i++) {
    let theirs = start(at.batch, params.queries, i, at.head);
    var dots = 0.0;
    var dp = 0.0;
    for (var g = 0u; g < GROUPS; g++) {
      dots += inner(key[g], q[theirs + g]);
      dp += inner(value[g], dy[theirs + g]);
    }
    let other = sums_saved[(at.batch * params.heads + at.head) * params.queries + i];
    let score = masked_score(dots, at.batch, i, at.index);
    let p = exp(score - other.x) * other.y;
    let factor = kept(at, i, at.index);
    let ds = select(params.scale * p * (dp * factor - other.z), 0.0, score == MASKED);
    let used = p * factor;
    for (var g = 0u; g < GROUPS; g++) {
      sum_q[g] += ds * q[theirs + g];
      sum_dy[g] += used * dy[theirs + g];
    }
  }
  for (var g = 0u; g < GROUPS; g++) {
    dkv[mine + g] = sum_q[g];
    dkv[params.dv_start + mine + g] = sum_dy[g];
  }
}
