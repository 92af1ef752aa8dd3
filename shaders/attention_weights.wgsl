// Attention weights of software adapters, where the products around them are matrix kernels (see shaders/attention.wgsl
// for the fused form): p = softmax(x + bias, masked) over the keys, used = p keep / (1 - drop), of one block. x [B·H·T, S].
// A key that causality hides has weight 0. Workgroup: one row (b, h, i); backward_bias: thread, one element of the bias.
// g becomes ds = p (g - Σ g p), g = dused keep / (1 - drop). Reads 2 or 3, writes 1.
// use: lib/attention
// use: lib/row_workgroup
// use: lib/grid
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> used: array<f32>;
@group(0) @binding(3) var<storage, read> p: array<f32>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read_write> g: array<f32>;
@group(0) @binding(8) var<storage, read> ds: array<f32>;
@group(0) @binding(9) var<storage, read_write> dbias: array<f32>;

fn rows() -> u32 { return params.batch * params.heads * params.queries; }

// In place: x becomes p.
@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= rows()) { return; }
  let at = query_of(row);
  let base = row * params.keys;
  let end = visible(at);
  var top = LOWEST;
  for (var j = lane; j < end; j += LANES) {
    let s = score(x[base + j], at, j);
    x[base + j] = s;
    top = max(top, s);
  }
  let largest = row_max(top, lane);
  var part = 0.0;
  for (var j = lane; j < end; j += LANES) {
    let e = exp(x[base + j] - largest);
    x[base + j] = e;
    part += e;
  }
  let share = 1.0 / row_sum(part, lane);
  for (var j = lane; j < end; j += LANES) { x[base + j] *= share; }
  for (var j = end + lane; j < params.keys; j += LANES) { x[base + j] = 0.0; }
}

@compute @workgroup_size(LANES)
fn drop(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= rows()) { return; }
  let at = query_of(row);
  let base = row * params.keys;
  let seed_step = vec2u(clock[0], clock[1]);
  for (var j = lane; j < params.keys; j += LANES) { used[base + j] = p[base + j] * kept(at, j, seed_step); }
}

// In place: dused becomes ds.
@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= rows()) { return; }
  let at = query_of(row);
  let base = row * params.keys;
  let seed_step = vec2u(clock[0], clock[1]);
  var part = 0.0;
  for (var j = lane; j < params.keys; j += LANES) {
    let weighted = g[base + j] * kept(at, j, seed_step) * p[base + j];
    g[base + j] = weighted;
    part += weighted;
  }
  let total = row_sum(part, lane);
  // A masked score is a constant: no gradient, also where p is not 0 because every key is masked. Where p is 0 ds is.
  for (var j = lane; j < params.keys; j += LANES) {
    g[base + j] = select(g[base + j] - p[base + j] * total, 0.0, is_padding(at.batch, j));
  }
}

// dbias += Σ ds over what the bias was broadcast to within the block.
@compute @workgroup_size(64)
fn backward_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = bias_block();
  let thread = unfold(group, groups) * 64u + lane;
  if (thread >= b.batches * b.heads * b.queries * b.keys) { return; }
  let e = bias_element(b, thread);
  var sum = 0.0;
  for (var n = e.at.batch; n < params.batch; n += b.batches) {
    for (var h = e.at.head; h < params.heads; h += b.heads) {
      for (var i = e.at.index; i < params.queries; i += b.queries) {
        let base = ((n * params.heads + h) * params.queries + i) * params.keys;
        for (var j = e.key; j < params.keys; j += b.keys) { sum += ds[base + j]; }
      }
    }
  }
  let at = Query(params.first_batch + e.at.batch, params.first_head + e.at.head, params.first_query + e.at.index);
  dbias[bias_index(at, e.key)] += sum;
}
