// Attention without the [T, S] matrix: y_i = Σ_j p_ij v_j, p_i = softmax_j(scale q_i·k_j + bias_ij, masked): for GPUs.
// q [B, T, H·D], k, v [B, capacity, H/share·D], keep [B, S] i32 (0: padding) -> y [B, T, H·D]. Saved for each query of
// each head: measure = (m, 1 / Σ_j exp(s_j - m)), m the largest score. Not m + log Σ: the sum of a masked row drowns in -1e9.
// Heads are slices of the channels: nothing is permuted. Workgroup: 64 queries of a head over all keys that the last of
// them sees, 32 at a time; the running maximum rescales the sums when it rises (FlashAttention-2, Dao 2023, algorithm 1).
// Leading and trailing tiles of padding come last, and are left out where they weigh nothing.
// Reads 4 S D / 64 for each query of a head, half of it the query itself, again for each 32 keys; writes D.
// use: lib/attention
// use: lib/attention_tile
// use: lib/heads_fours
// use: lib/grid
@group(0) @binding(1) var<storage, read> q: array<Stored>;
@group(0) @binding(2) var<storage, read> k: array<Stored>;
@group(0) @binding(3) var<storage, read> v: array<Stored>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<Stored>;
@group(0) @binding(8) var<storage, read_write> measure: array<vec2f>;

// Of the four rows of each thread, for the eight threads that share them.
var<workgroup> shared_rows: array<vec4f, THREADS>;

fn rows_max(own: vec4f, at: vec2u) -> vec4f {
  shared_rows[lane_of(at)] = own;
  workgroupBarrier();
  var all = shared_rows[at.y * 8u];
  for (var x = 1u; x < 8u; x++) { all = max(all, shared_rows[at.y * 8u + x]); }
  return all;
}

fn rows_sum(own: vec4f, at: vec2u) -> vec4f {
  shared_rows[lane_of(at)] = own;
  workgroupBarrier();
  var all = shared_rows[at.y * 8u];
  for (var x = 1u; x < 8u; x++) { all += shared_rows[at.y * 8u + x]; }
  return all;
}

// Whether masked keys weigh nothing beside what every query of the tile has seen.
fn has_seen_enough(largest: vec4f, first: u32, at: vec2u) -> bool {
  let query = vec4u(first + at.y) + vec4u(0u, 16u, 32u, 48u);
  let enough = outweighs(largest) | (query >= vec4u(params.queries));
  return largest_of_all(select(1u, 0u, all(enough)), at) == 0u;
}

@compute @workgroup_size(8, 16)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = query_tile(unfold(group, groups));
  if (tile.batch >= params.batch) { return; }
  let at = local.xy;
  let rows = queries_of(tile.batch, tile.head, tile.first);
  let seed_step = vec2u(clock[0], clock[1]);
  var result: array<vec4f, RESULTS>;
  var largest = vec4f(LOWEST);
  var sum = vec4f(0.0); // of the thread's own keys
  let end = visible(Query(tile.batch, tile.head, min(tile.first + ROWS, params.queries) - 1u));
  let tiles = key_tiles(tile.batch, end, at);
  for (var t = 0u; t < tiles.all; t++) {
    if (t == tiles.kept && has_seen_enough(largest, tile.first, at)) { break; }
    let first = key_of_tile(tiles, t);
    let columns = keys_of(tile.batch, tile.head, first);
    var scores = products(&q, rows, &k, columns, at);
    let keys = four_from(first + at.x * 4u);
    let padded = padding(tile.batch, keys);
    var top = largest;
    for (var i = 0u; i < 4u; i++) {
      let query = vec4u(tile.first + i * 16u + at.y);
      scores[i] = scores_of(scores[i], tile.batch, tile.head, query, keys, padded);
      let own = select(vec4f(LOWEST), scores[i], seen(query, keys));
      top[i] = max(max(max(own.x, own.y), max(own.z, own.w)), top[i]);
    }
    let higher = rows_max(top, at);
    let shrink = exp(largest - higher);
    largest = higher;
    sum *= shrink;
    for (var r = 0u; r < RESULTS; r++) { result[r] *= shrink[r % 4u]; }
    let bits = kept_bits(tile.batch, tile.head, tile.first + at.y, first + at.x * 4u, false, seed_step);
    for (var i = 0u; i < 4u; i++) {
      let sees = seen(vec4u(tile.first + i * 16u + at.y), keys);
      let weights = select(vec4f(0.0), exp(scores[i] - largest[i]), sees);
      sum[i] += (weights.x + weights.y) + (weights.z + weights.w);
      scores[i] = weights * factors(bits, i);
    }
    add_weighted(scores, &v, columns, tile.channel, &result, at);
  }
  let inverse = 1.0 / rows_sum(sum, at);
  for (var i = 0u; i < 4u; i++) {
    let row = tile.first + i * 16u + at.y;
    if (row >= params.queries) { continue; }
    for (var s = 0u; s < SPANS; s++) {
      put_four(&y, rows.start + row * rows.step, tile.channel + s * 32u + at.x * 4u, result[s * 4u + i] * inverse[i]);
    }
    if (at.x == 0u && tile.channel == 0u) {
      measure[(tile.batch * params.heads + tile.head) * params.queries + row] = vec2f(largest[i], inverse[i]);
    }
  }
}
