// The gradients of shaders/attention.wgsl, which see for the arrays. p is computed again from what forward has saved:
// dv_j = Σ_i p_ij dy_i, ds_ij = p_ij (dy_i·v_j - δ_i), δ_i = dy_i·y_i, dq_i = scale Σ_j ds_ij k_j, dk_j = scale Σ_i ds_ij q_i,
// dbias = ds (FlashAttention-2, Dao 2023, algorithm 2, with dq in a kernel of its own: nothing is added by atomics, so
// that two runs give the same bits). backward_q: workgroup, 64 queries of a head over the keys. backward_kv: 64 keys of a
// head of keys, over the queries of all heads that share it. backward_bias: 64 x 32 elements of the bias.
// Tiles that causality hides are left out, and so are leading and trailing ones of padding, which have no gradient but that
// of values whose queries see nothing else. Reads 7 S D / 64 for each query of a head in backward_q, 8 in backward_kv, half of
// it or more the workgroup's own rows; writes D, 2 D.
// use: lib/attention
// use: lib/attention_tile
// use: lib/heads_fours
// use: lib/grid
@group(0) @binding(1) var<storage, read> q: array<Stored>;
@group(0) @binding(2) var<storage, read> k: array<Stored>;
@group(0) @binding(3) var<storage, read> v: array<Stored>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read> dy: array<Stored>;
@group(0) @binding(8) var<storage, read> y: array<Stored>;
@group(0) @binding(9) var<storage, read> measure: array<vec2f>;
// The bits of (m, 1 / Σ, δ) of each query, and after the last one seed and step: eight storage buffers are all that a
// kernel may bind.
@group(0) @binding(10) var<storage, read_write> sums: array<vec4u>;
@group(0) @binding(11) var<storage, read> sums_saved: array<vec4u>;
@group(0) @binding(12) var<storage, read_write> dq: array<Stored>;
// dk, then from float `dv_start` on dv.
@group(0) @binding(13) var<storage, read_write> dkv: array<Stored>;
// [parts, elements of the bias]
@group(0) @binding(14) var<storage, read_write> dbias: array<f32>;

fn query_count() -> u32 { return params.batch * params.heads * params.queries; }
fn saved_seed_step() -> vec2u { return sums_saved[query_count()].xy; }

// δ beside what forward saved. Workgroup: 8 queries, 8 threads for each.
var<workgroup> deltas: array<f32, 64>;
@compute @workgroup_size(64)
fn backward_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups) * 8u + lane / 8u;
  let start = query_start(row);
  var delta = 0.0;
  for (var c = lane % 8u * 4u; c < params.head_size && row < query_count(); c += 32u) { delta += dot(four(&dy, start, c), four(&y, start, c)); }
  deltas[lane] = delta;
  workgroupBarrier();
  if (lane % 8u != 0u || row > query_count()) { return; }
  if (row == query_count()) {
    sums[row] = vec4u(clock[0], clock[1], 0u, 0u);
    return;
  }
  for (var x = 1u; x < 8u; x++) { delta += deltas[lane + x]; }
  sums[row] = vec4u(bitcast<vec2u>(measure[row]), bitcast<u32>(delta), 0u);
}

// The first float of a query, by its number in measure.
fn query_start(row: u32) -> u32 {
  let head = row / params.queries;
  let part = queries_of(head / params.heads, head % params.heads, 0u);
  return part.start + row % params.queries * part.step;
}

// Of four queries.
struct Sums { largest: vec4f, inverse: vec4f, delta: vec4f }
fn sums_of(batch: u32, head: u32, query: vec4u) -> Sums {
  var own: Sums;
  for (var e = 0u; e < 4u; e++) {
    let words = sums_saved[(batch * params.heads + head) * params.queries + query[e]];
    own.largest[e] = bitcast<f32>(words.x);
    own.inverse[e] = bitcast<f32>(words.y);
    own.delta[e] = bitcast<f32>(words.z);
  }
  return own;
}

// p after dropout, and ds, of four queries and keys with their scores; 0 where a query does not see the key.
struct Gradients { used: vec4f, ds: vec4f }
fn gradients(scores: vec4f, dp: vec4f, own: Sums, factor: vec4f, sees: vec4<bool>, padded: vec4<bool>) -> Gradients {
  let p = select(vec4f(0.0), exp(scores - own.largest) * own.inverse, sees);
  // A masked score is a constant: no gradient, also where p is not 0 because every key is masked.
  return Gradients(p * factor, select(p * (dp * factor - own.delta), vec4f(0.0), padded | !sees));
}

// The sums of the four rows of a thread, which are queries.
fn row_sums(rows: Part, batch: u32, head: u32, at: vec2u) -> Sums {
  return sums_of(batch, head, vec4u(rows.first + at.y) + vec4u(0u, 16u, 32u, 48u));
}

// ds of the 4 x 4 queries and keys of a thread.
fn query_gradients(rows: Part, columns: Part, batch: u32, head: u32, own: Sums, seed_step: vec2u, at: vec2u) -> array<vec4f, 4> {
  var ds = products(&q, rows, &k, columns, at);
  let dp = products(&dy, rows, &v, columns, at);
  let keys = four_from(columns.first + at.x * 4u);
  let padded = padding(batch, keys);
  let bits = kept_bits(batch, head, rows.first + at.y, keys.x, false, seed_step);
  for (var i = 0u; i < 4u; i++) {
    let query = vec4u(rows.first + i * 16u + at.y);
    let scores = scores_of(ds[i], batch, head, query, keys, padded);
    let each = Sums(vec4f(own.largest[i]), vec4f(own.inverse[i]), vec4f(own.delta[i]));
    ds[i] = gradients(scores, dp[i], each, factors(bits, i), seen(query, keys), padded).ds;
  }
  return ds;
}

// How many keys are seen by any of 64 queries.
fn keys_seen(batch: u32, head: u32, first: u32) -> u32 {
  return visible(Query(batch, head, min(first + ROWS, params.queries) - 1u));
}

@compute @workgroup_size(8, 16)
fn backward_q(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = query_tile(unfold(group, groups));
  if (tile.batch >= params.batch) { return; }
  let at = local.xy;
  let rows = queries_of(tile.batch, tile.head, tile.first);
  let seed_step = saved_seed_step();
  let own = row_sums(rows, tile.batch, tile.head, at);
  var result: array<vec4f, RESULTS>;
  let end = keys_seen(tile.batch, tile.head, tile.first);
  let tiles = key_tiles(tile.batch, end, at);
  for (var t = 0u; t < tiles.kept; t++) {
    let columns = keys_of(tile.batch, tile.head, key_of_tile(tiles, t));
    let ds = query_gradients(rows, columns, tile.batch, tile.head, own, seed_step, at);
    add_weighted(ds, &k, columns, tile.channel, &result, at);
  }
  for (var i = 0u; i < 4u; i++) {
    let row = tile.first + i * 16u + at.y;
    if (row >= params.queries) { continue; }
    for (var s = 0u; s < SPANS; s++) {
      put_four(&dq, rows.start + row * rows.step, tile.channel + s * 32u + at.x * 4u, params.scale * result[s * 4u + i]);
    }
  }
}

// Whether the keys of a tile, rows of heads of keys, are all padding that weighs nothing for any query from `first` on.
fn weigh_nothing(are_none: bool, tile: Tile, first: u32, at: vec2u) -> bool {
  if (params.masked == 0u || largest_of_all(select(1u, 0u, are_none), at) == 1u) { return false; }
  var needed = 0u;
  for (var head = tile.head * params.share; head < (tile.head + 1u) * params.share; head++) {
    let saved = (tile.batch * params.heads + head) * params.queries;
    for (var i = first + lane_of(at); i < params.queries; i += THREADS) {
      let largest = bitcast<f32>(sums_saved[saved + i].x);
      if (!outweighs(vec4f(largest)).x) { needed = 1u; }
    }
  }
  return largest_of_all(needed, at) == 0u;
}

// dk and dv, of rows of the cache beyond the keys too: those get 0.
@compute @workgroup_size(8, 16)
fn backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = tile_of(unfold(group, groups), params.capacity, params.heads / params.share);
  if (tile.batch >= params.batch) { return; }
  let at = local.xy;
  let rows = keys_of(tile.batch, tile.head * params.share, tile.first);
  let seed_step = saved_seed_step();
  let keys = vec4u(tile.first + at.y) + vec4u(0u, 16u, 32u, 48u);
  let padded = padding(tile.batch, keys);
  var result_k: array<vec4f, RESULTS>;
  var result_v: array<vec4f, RESULTS>;
  // Where causality holds, the first query that sees the first of these keys.
  let hidden = select(0u, max(tile.first + params.queries, params.keys) - params.keys, params.causal == 1u);
  var begin = select(hidden / COLUMNS * COLUMNS, params.queries, tile.first >= params.keys);
  let are_none = all(padded | (keys >= vec4u(params.keys)));
  if (weigh_nothing(are_none, tile, hidden, at)) { begin = params.queries; }
  for (var head = tile.head * params.share; head < (tile.head + 1u) * params.share; head++) {
    for (var first = begin; first < params.queries; first += COLUMNS) {
      let columns = queries_of(tile.batch, head, first);
      var used = products(&k, rows, &q, columns, at);
      var ds = products(&v, rows, &dy, columns, at);
      let queries = four_from(first + at.x * 4u);
      let own = sums_of(tile.batch, head, queries);
      let bits = kept_bits(tile.batch, head, tile.first + at.y, queries.x, true, seed_step);
      for (var i = 0u; i < 4u; i++) {
        let key = vec4u(tile.first + i * 16u + at.y);
        let scores = scores_of(used[i], tile.batch, head, queries, key, vec4<bool>(padded[i]));
        let both = gradients(scores, ds[i], own, factors(bits, i), seen(queries, key), vec4<bool>(padded[i]));
        used[i] = both.used;
        ds[i] = both.ds;
      }
      add_weighted(used, &dy, columns, tile.channel, &result_v, at);
      add_weighted(ds, &q, columns, tile.channel, &result_k, at);
    }
  }
  for (var i = 0u; i < 4u; i++) {
    let row = tile.first + i * 16u + at.y;
    if (row >= params.capacity) { continue; }
    for (var s = 0u; s < SPANS; s++) {
      let start = rows.start + row * rows.step;
      let channel = tile.channel + s * 32u + at.x * 4u;
      put_four(&dkv, start, channel, params.scale * result_k[s * 4u + i]);
      put_four(&dkv, params.dv_start + start, channel, result_v[s * 4u + i]);
    }
  }
}

// Workgroup: 64 queries by 32 keys of the bias, and every score that they were added to: of its part of the heads and
// entries, and of all queries, or keys, where it is broadcast along them. The parts are added up afterwards.
@compute @workgroup_size(8, 16)
fn backward_bias(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = bias_block();
  let across = (b.keys + COLUMNS - 1u) / COLUMNS;
  let down = (b.queries + ROWS - 1u) / ROWS;
  let i = unfold(group, groups);
  let block = i / across / down;
  let part = block / (b.batches * b.heads);
  if (part >= params.parts) { return; }
  let at = local.xy;
  let own = Tile(block / b.heads % b.batches, block % b.heads, i / across % down * ROWS, 0u);
  let key = i % across * COLUMNS;
  let seed_step = saved_seed_step();
  let last_row = select(params.queries, own.first + 1u, b.queries > 1u);
  let last_key = select(params.keys, key + 1u, b.keys > 1u);
  let heads = params.heads / b.heads;
  let terms = params.batch / b.batches * heads;
  let most = (terms + params.parts - 1u) / params.parts;
  var sum: array<vec4f, 4>;
  for (var term = part * most; term < min((part + 1u) * most, terms); term++) {
    let batch = own.batch + term / heads * b.batches;
    let head = own.head + term % heads * b.heads;
    for (var row = own.first; row < last_row; row += ROWS) {
      let rows = queries_of(batch, head, row);
      let saved = row_sums(rows, batch, head, at);
      for (var first = key; first < min(last_key, keys_seen(batch, head, row)); first += COLUMNS) {
        let ds = query_gradients(rows, keys_of(batch, head, first), batch, head, saved, seed_step, at);
        for (var r = 0u; r < 4u; r++) { sum[r] += ds[r]; }
      }
    }
  }
  for (var r = 0u; r < 4u; r++) { tile_rows[at.x * ROW_SIDE + r * 16u + at.y] = sum[r]; }
  workgroupBarrier();
  let rows = min(ROWS, b.queries);
  let keys = min(COLUMNS, b.keys);
  for (var t = lane_of(at); t < rows * keys; t += THREADS) {
    let row = own.first + t / keys;
    let j = key + t % keys;
    if (row >= b.queries || j >= b.keys) { continue; }
    var total = 0.0;
    for (var r = t / keys; r < ROWS; r += rows) {
      for (var c = t % keys; c < COLUMNS; c += keys) { total += tile_rows[c / 4u * ROW_SIDE + r][c % 4u]; }
    }
    dbias[part * b.batches * b.heads * b.queries * b.keys + bias_index(Query(own.batch, own.head, row), j)] = total;
  }
}
