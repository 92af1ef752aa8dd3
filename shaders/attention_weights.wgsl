// Attention weights of software adapters, where the products around them are matrix kernels (see shaders/attention.wgsl
// for the fused form): p = softmax(x + bias, masked) over the keys, used = p keep / (1 - drop), of one block. x [B·H·T, S].
// A key that causality hides has weight 0. Workgroup: one row (b, h, i); backward_bias: thread, one element of the bias.
// g becomes ds = p (g - Σ g p), g = dused keep / (1 - drop). Reads 2 or 3, writes 1.
// Keys are gone through four at a time, or one where their number is no multiple of four.
// use: lib/attention
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
@group(0) @binding(1) var<storage, read_write> x: array<T>;
@group(0) @binding(2) var<storage, read_write> used: array<T>;
@group(0) @binding(3) var<storage, read> p: array<T>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read_write> g: array<T>;
@group(0) @binding(8) var<storage, read> ds: array<f32>;
@group(0) @binding(9) var<storage, read_write> dbias: array<f32>;

// Of WIDTH keys from one on.
fn keeps(i: u32) -> Whole {
  if (WIDTH == 1u) { return Whole(keep[i]); }
  return four_whole(keep[i], keep[i + 1u], keep[i + 2u], keep[i + 3u]);
}

fn biases(i: u32, step: u32) -> T {
  if (WIDTH == 1u) { return T(bias[i]); }
  return four(bias[i], bias[i + step], bias[i + 2u * step], bias[i + 3u * step]);
}

fn kept_of(q: Query, j: u32, seed: vec2u) -> T {
  if (WIDTH == 1u) { return T(kept(q, j, seed)); }
  return four(kept(q, j, seed), kept(q, j + 1u, seed), kept(q, j + 2u, seed), kept(q, j + 3u, seed));
}

fn rows() -> u32 { return params.batch * params.heads * params.queries; }
fn groups_of(keys: u32) -> u32 { return (keys + WIDTH - 1u) / WIDTH; }

// 0 where a key is padding, else y.
fn without_padding(y: T, batch: u32, j: u32) -> T {
  if (params.masked == 0u) { return y; }
  return select(y, T(0.0), keeps(batch * params.keep_row + j) == Whole(0));
}

// The scores of a query and the keys from j on, see lib/attention; those from `end` on are hidden.
fn scores(products: T, q: Query, j: u32, end: u32) -> T {
  var s = products * params.scale;
  if (HAS_BIAS) {
    let b = biases(bias_index(q, j), params.bias_key);
    s += select(b, T(LOWEST), bitcast<Bits>(b) == Bits(0xff800000u));
  }
  if (params.masked == 1u) { s = select(s, T(MASKED), keeps(q.batch * params.keep_row + j) == Whole(0)); }
  return select(s, T(LOWEST), j + places() >= Bits(end));
}

// In place: x becomes p.
@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= rows()) { return; }
  let at = query_of(row);
  let base = row * (params.keys / WIDTH);
  let end = visible(at);
  var top = T(LOWEST);
  for (var c = lane; c < groups_of(end); c += LANES) {
    let s = scores(x[base + c], at, c * WIDTH, end);
    x[base + c] = s;
    top = max(top, s);
  }
  let largest = row_max(fold_max(top), lane);
  var part = T(0.0);
  for (var c = lane; c < groups_of(end); c += LANES) {
    let e = select(exp(x[base + c] - largest), T(0.0), c * WIDTH + places() >= Bits(end));
    x[base + c] = e;
    part += e;
  }
  let share = 1.0 / row_sum(fold_sum(part), lane);
  for (var c = lane; c < groups_of(end); c += LANES) { x[base + c] *= share; }
  for (var c = groups_of(end) + lane; c < params.keys / WIDTH; c += LANES) { x[base + c] = T(0.0); }
}

@compute @workgroup_size(LANES)
fn drop(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= rows()) { return; }
  let at = query_of(row);
  let columns = params.keys / WIDTH;
  let seed_step = vec2u(clock[0], clock[1]);
  for (var c = lane; c < columns; c += LANES) { used[row * columns + c] = p[row * columns + c] * kept_of(at, c * WIDTH, seed_step); }
}

// In place: dused becomes ds.
@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= rows()) { return; }
  let at = query_of(row);
  let columns = params.keys / WIDTH;
  let base = row * columns;
  let seed_step = vec2u(clock[0], clock[1]);
  var part = T(0.0);
  for (var c = lane; c < columns; c += LANES) {
    let weighted = g[base + c] * kept_of(at, c * WIDTH, seed_step) * p[base + c];
    g[base + c] = weighted;
    part += weighted;
  }
  let total = row_sum(fold_sum(part), lane);
  // A masked score is a constant: no gradient, also where p is not 0 because every key is masked. Where p is 0 ds is.
  for (var c = lane; c < columns; c += LANES) {
    g[base + c] = without_padding(g[base + c] - p[base + c] * total, at.batch, c * WIDTH);
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
