// Attention of a query over many keys (a token after a cache): shaders/attention.wgsl with a query shared by lanes. For
// software adapters, whose lanes are a subgroup; GPUs, where neighbours must read neighbours: shaders/attention_few.wgsl.
// Workgroup: one query of one head. Each lane streams over every LANES-th key with a running maximum and sum of its own;
// then they are joined. Reads 2 S D for each query of a head, writes D and (m, 1 / Σ).
// use: lib/attention
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/lanes_workgroup
// use: lib/grid
const GROUPS: u32 = 4u; // head size D in groups of WIDTH
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(6) var<storage, read> clock: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
@group(0) @binding(8) var<storage, read_write> measure: array<vec2f>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups);
  if (row >= params.batch * params.heads * params.queries) { return; }
  let at = query_of(row);
  let mine = ((at.batch * params.queries + at.index) * params.heads + at.head) * GROUPS;
  let seed_step = vec2u(clock[0], clock[1]);
  var query: array<T, GROUPS>;
  var sum_v: array<T, GROUPS>;
  for (var i = 0u; i < GROUPS; i++) {
    query[i] = q[mine + i];
    sum_v[i] = T(0.0);
  }
  var largest = LOWEST;
  var sum = 0.0;
  for (var j = lane; j < visible(at); j += LANES) {
    let theirs = ((at.batch * params.capacity + j) * (params.heads / params.share) + at.head / params.share) * GROUPS;
    var dots = 0.0;
    for (var i = 0u; i < GROUPS; i++) { dots += inner(query[i], k[theirs + i]); }
    let s = score(dots, at, j);
    let higher = max(largest, s);
    let shrink = exp(largest - higher);
    let weight = exp(s - higher);
    largest = higher;
    sum = sum * shrink + weight;
    let used = weight * kept(at, j, seed_step);
    for (var i = 0u; i < GROUPS; i++) { sum_v[i] = sum_v[i] * shrink + used * v[theirs + i]; }
  }
  let top = row_max(largest, lane);
  let shrink = exp(largest - top); // of a lane without keys: its sums are 0
  let inverse = 1.0 / row_sum(sum * shrink, lane);
  for (var i = 0u; i < GROUPS; i++) {
    let total = lanes_sum(sum_v[i] * shrink, lane);
    if (lane == i % LANES) { y[mine + i] = total * inverse; }
  }
  if (lane == 0u) { measure[row] = vec2f(top, inverse); }
}
