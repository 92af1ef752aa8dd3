// Attention without the [T, S] matrix: y_i = Σ_j p_ij v_j, p_i = softmax_j(scale q_i·k_j + bias_ij, masked).
// q [B, T, H·D], k, v [B, capacity, H/share·D], keep [B, S] i32 (0: padding) -> y [B, T, H·D]. Saved for each query of
// each head: measure = (m, 1 / Σ_j exp(s_j - m)), m the largest score. Not m + log Σ: the sum of a masked row drowns in -1e9.
// Heads are slices of the channels: nothing is permuted. Thread: one query (or one key) of one head, streaming over the
// others; the running maximum rescales the sum when it rises. Backward computes p from them again: dv_j = Σ_i p_ij dy_i,
// ds_ij = p_ij (dy_i·v_j - δ_i), δ_i = dy_i·y_i, dq_i = scale Σ_j ds_ij k_j, dk_j = scale Σ_i ds_ij q_i, dbias = ds.
// Reads 2 S D (backward 4 S D) for each query of a head, writes D.
// use: lib/attention
// use: lib/vec4
// use: lib/grid
const GROUPS: u32 = 4u; // head size D in groups of WIDTH
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
@group(0) @binding(8) var<storage, read_write> measure: array<vec2f>;
@group(0) @binding(9) var<storage, read> measure_saved: array<vec2f>;
@group(0) @binding(10) var<storage, read> dy: array<T>;
@group(0) @binding(11) var<storage, read> y_saved: array<T>;
// The bits of (m, 1 / Σ, δ) of each query, and after the last one seed and step: eight storage buffers are all that a
// kernel may bind.
@group(0) @binding(12) var<storage, read_write> sums: array<vec4u>;
@group(0) @binding(13) var<storage, read> sums_saved: array<vec4u>;
@group(0) @binding(14) var<storage, read_write> dq: array<T>;
// dk, then from group `dv_start` on dv.
@group(0) @binding(15) var<storage, read_write> dkv: array<T>;
@group(0) @binding(16) var<storage, read_write> dbias: array<f32>;

fn rows() -> u32 { return params.batch * params.heads * params.queries; }
// First group of a query, and of key j as a head sees it.
fn query_start(at: Query) -> u32 { return ((at.batch * params.queries + at.index) * params.heads + at.head) * GROUPS; }
fn key_start(batch: u32, head: u32, j: u32) -> u32 {
  return ((batch * params.capacity + j) * (params.heads / params.share) + head / params.share) * GROUPS;
}

struct Sums { largest: f32, inverse: f32, delta: f32 }
fn sums_of(row: u32) -> Sums {
  let words = sums_saved[row];
  return Sums(bitcast<f32>(words.x), bitcast<f32>(words.y), bitcast<f32>(words.z));
}
fn saved_seed_step() -> vec2u { return sums_saved[rows()].xy; }

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= rows()) { return; }
  let at = query_of(thread);
  let mine = query_start(at);
  let seed_step = vec2u(clock[0], clock[1]);
  var query: array<T, GROUPS>;
  var sum_v: array<T, GROUPS>;
  for (var g = 0u; g < GROUPS; g++) {
    query[g] = q[mine + g];
    sum_v[g] = T(0.0);
  }
  var largest = LOWEST;
  var sum = 0.0;
  for (var j = 0u; j < visible(at); j++) {
    let theirs = key_start(at.batch, at.head, j);
    var dots = 0.0;
    for (var g = 0u; g < GROUPS; g++) { dots += inner(query[g], k[theirs + g]); }
    let s = score(dots, at, j);
    if (s > largest) {
      let shrink = exp(largest - s);
      sum *= shrink;
      for (var g = 0u; g < GROUPS; g++) { sum_v[g] *= shrink; }
      largest = s;
    }
    let weight = exp(s - largest);
    sum += weight;
    let used = weight * kept(at, j, seed_step);
    for (var g = 0u; g < GROUPS; g++) { sum_v[g] += used * v[theirs + g]; }
  }
  for (var g = 0u; g < GROUPS; g++) { y[mine + g] = sum_v[g] / sum; }
  measure[thread] = vec2f(largest, 1.0 / sum);
}

// δ beside what forward saved. Thread: one query.
@compute @workgroup_size(64)
fn backward_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread == 0u) { sums[rows()] = vec4u(clock[0], clock[1], 0u, 0u); }
  if (thread >= rows()) { return; }
  let mine = query_start(query_of(thread));
  var delta = 0.0;
  for (var g = 0u; g < GROUPS; g++) { delta += inner(dy[mine + g], y_saved[mine + g]); }
  sums[thread] = vec4u(bitcast<vec2u>(measure_saved[thread]), bitcast<u32>(delta), 0u);
}

// Thread: one query.
@compute @workgroup_size(64)
fn backward_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= rows()) { return; }
  let at = query_of(thread);
  let mine = query_start(at);
  let seed_step = saved_seed_step();
  var query: array<T, GROUPS>;
  var gradient: array<T, GROUPS>;
  var sum_k: array<T, GROUPS>;
  for (var g = 0u; g < GROUPS; g++) {
    query[g] = q[mine + g];
    gradient[g] = dy[mine + g];
    sum_k[g] = T(0.0);
  }
  let own = sums_of(thread);
  for (var j = 0u; j < visible(at); j++) {
    let theirs = key_start(at.batch, at.head, j);
    var dots = 0.0;
    var dp = 0.0;
    for (var g = 0u; g < GROUPS; g++) {
      dots += inner(query[g], k[theirs + g]);
      dp += inner(gradient[g], v[theirs + g]);
    }
    let p = exp(score(dots, at, j) - own.largest) * own.inverse;
    // A masked score is a constant: no gradient, also where p is not 0 because every key is masked.
    let ds = select(p * (dp * kept(at, j, seed_step) - own.delta), 0.0, is_padding(at.batch, j));
    for (var g = 0u; g < GROUPS; g++) { sum_k[g] += ds * k[theirs + g]; }
  }
  for (var g = 0u; g < GROUPS; g++) { dq[mine + g] = params.scale * sum_k[g]; }
}

// dk and dv. Thread: one key of one head of keys, rows of the cache beyond the keys too: those get 0.
@compute @workgroup_size(64)
fn backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = unfold(group, groups) * 64u + lane;
  let key_heads = params.heads / params.share;
  if (thread >= params.batch * key_heads * params.capacity) { return; }
  let j = thread % params.capacity;
  let first_head = thread / params.capacity % key_heads * params.share;
  let batch = thread / params.capacity / key_heads;
  let mine = key_start(batch, first_head, j);
  let seed_step = saved_seed_step();
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
  for (var h = first_head; h < first_head + params.share && j < params.keys; h++) {
    for (var i = 0u; i < params.queries; i++) {
      let at = Query(batch, h, i);
      if (j >= visible(at)) { continue; }
      let theirs = query_start(at);
      var dots = 0.0;
      var dp = 0.0;
      for (var g = 0u; g < GROUPS; g++) {
        dots += inner(key[g], q[theirs + g]);
        dp += inner(value[g], dy[theirs + g]);
      }
      let other = sums_of((batch * params.heads + h) * params.queries + i);
      let p = exp(score(dots, at, j) - other.largest) * other.inverse;
      let factor = kept(at, j, seed_step);
      let ds = select(p * (dp * factor - other.delta), 0.0, is_padding(batch, j));
      let used = p * factor;
      for (var g = 0u; g < GROUPS; g++) {
        sum_q[g] += ds * q[theirs + g];
        sum_dy[g] += used * dy[theirs + g];
      }
    }
  }
  for (var g = 0u; g < GROUPS; g++) {
    dkv[mine + g] = params.scale * sum_q[g];
    dkv[params.dv_start + mine + g] = sum_dy[g];
  }
}

// Thread: one element of the bias, and every score that it was added to, in order.
@compute @workgroup_size(64)
fn backward_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = bias_block();
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= b.batches * b.heads * b.queries * b.keys) { return; }
  let e = bias_element(b, thread);
  let seed_step = saved_seed_step();
  var sum = 0.0;
  for (var n = e.at.batch; n < params.batch; n += b.batches) {
    for (var h = e.at.head; h < params.heads; h += b.heads) {
      for (var i = e.at.index; i < params.queries; i += b.queries) {
        let at = Query(n, h, i);
        let mine = query_start(at);
        let own = sums_of((n * params.heads + h) * params.queries + i);
        for (var j = e.key; j < visible(at); j += b.keys) {
          if (is_padding(n, j)) { continue; }
          let theirs = key_start(n, h, j);
          var dots = 0.0;
          var dp = 0.0;
          for (var g = 0u; g < GROUPS; g++) {
            dots += inner(q[mine + g], k[theirs + g]);
            dp += inner(dy[mine + g], v[theirs + g]);
          }
          sum += exp(score(dots, at, j) - own.largest) * own.inverse * (dp * kept(at, j, seed_step) - own.delta);
        }
      }
    }
  }
  dbias[thread] = sum;
}
