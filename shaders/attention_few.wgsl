// Attention of few queries over many keys (tokens after a cache), for GPUs; shaders/attention.wgsl, which see for the arrays.
// Workgroup: one query of one head. ACROSS neighbouring threads share a key, so that neighbours read neighbouring
// channels of keys and of values: a part of the workgroup, with a running maximum and sum of its own over every PARTS-th
// key. Keys come KEYS at a time: products of parts of the channels, then a score by each thread, then its part's values.
// Reads 2 S D for each query of a head, writes D and (m, 1 / Σ). 12,544 bytes of workgroup memory at most.
// use: lib/attention
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
const GROUPS: u32 = 4u; // head size D in groups of WIDTH
const OWN: u32 = (GROUPS + 15u) / 16u; // groups of a thread, ACROSS apart
const ACROSS: u32 = (GROUPS + OWN - 1u) / OWN;
const PARTS: u32 = LANES / ACROSS; // LANES - KEYS threads have no key
const KEYS: u32 = PARTS * ACROSS;
const SIDE: u32 = ACROSS + 1u; // one to spare: threads that add up meet in no bank
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
@group(0) @binding(8) var<storage, read_write> measure: array<vec2f>;

var<workgroup> products: array<f32, KEYS * SIDE>; // [key][thread of its part]
var<workgroup> scores: array<vec2f, KEYS>; // of each key: its score, and what dropout multiplies its weight with
var<workgroup> sums: array<T, KEYS>; // [part][thread]

// Where key j of a query begins.
fn key_start(at: Query, j: u32) -> u32 {
  return ((at.batch * params.capacity + j) * (params.heads / params.share) + at.head / params.share) * GROUPS;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.batch * params.heads * params.queries) { return; }
  let at = query_of(row);
  let mine = ((at.batch * params.queries + at.index) * params.heads + at.head) * GROUPS;
  let seed_step = vec2u(clock[0], clock[1]);
  let part = lane / ACROSS;
  let own = select(part, KEYS, part >= PARTS); // the first key of the thread's part; none beyond the last part
  let c = lane % ACROSS;
  var query: array<T, OWN>;
  var sum_v: array<T, OWN>;
  for (var i = 0u; i < OWN; i++) {
    query[i] = q[mine + min(c + i * ACROSS, GROUPS - 1u)];
    sum_v[i] = T(0.0);
  }
  var largest = LOWEST;
  var sum = 0.0;
  let end = visible(at);
  for (var first = 0u; first < end; first += KEYS) {
    let used = min(KEYS, end - first);
    for (var n = own; n < used; n += PARTS) {
      let theirs = key_start(at, first + n);
      var dots = 0.0;
      for (var i = 0u; i < OWN; i++) {
        let channel = c + i * ACROSS;
        if (channel < GROUPS) { dots += inner(query[i], k[theirs + channel]); }
      }
      products[n * SIDE + c] = dots;
    }
    workgroupBarrier();
    if (lane < used) {
      var dots = 0.0;
      for (var i = 0u; i < ACROSS; i++) { dots += products[lane * SIDE + i]; }
      scores[lane] = vec2f(score(dots, at, first + lane), kept(at, first + lane, seed_step));
    }
    workgroupBarrier();
    var higher = largest;
    for (var n = own; n < used; n += PARTS) { higher = max(higher, scores[n].x); }
    let shrink = exp(largest - higher);
    largest = higher;
    sum *= shrink;
    for (var i = 0u; i < OWN; i++) { sum_v[i] *= shrink; }
    for (var n = own; n < used; n += PARTS) {
      let theirs = key_start(at, first + n);
      let weight = exp(scores[n].x - largest);
      let factor = weight * scores[n].y;
      sum += weight;
      for (var i = 0u; i < OWN; i++) {
        let channel = c + i * ACROSS;
        if (channel < GROUPS) { sum_v[i] += factor * v[theirs + channel]; }
      }
    }
  }
  let top = row_max(largest, lane);
  let shrink = exp(largest - top); // of a part without keys: its sums are 0
  let inverse = 1.0 / row_sum(select(0.0, sum * shrink, c == 0u), lane);
  for (var i = 0u; i < OWN; i++) {
    workgroupBarrier();
    if (lane < KEYS) { sums[lane] = sum_v[i] * shrink; }
    workgroupBarrier();
    let channel = lane + i * ACROSS;
    if (lane < ACROSS && channel < GROUPS) {
      var total = T(0.0);
      for (var p = 0u; p < PARTS; p++) { total += sums[p * ACROSS + lane]; }
      y[mine + channel] = total * inverse;
    }
  }
  if (lane == 0u) { measure[row] = vec2f(top, inverse); }
}
