// Positions grouped by an integer key, in the order of the positions within each group: a stable radix sort of pairs
// (key, position), 6 bits a pass, without atomics, so that two runs give the same order.
// `pairs` makes the pairs; few of them are sorted by `rank`, by counting which come before. Else a pass is `count` (how often each digit is in each segment of positions), `scan` (where the
// digit of each segment begins among all of that digit) and `place`. Keys out of range get the largest key, `bound`.
// Thread: `pairs` and `rank` one position; `count` and `place` one digit of one segment; `scan` one digit.
// use: lib/grid
struct Params {
  n: u32, bound: u32, skip: i32, length: u32, segments: u32, shift: u32,
  // Where keys are made of more than the index, as in scatterAdd: see `pairs_flat`. start: the first index's position.
  start: u32, inner: u32, middle: u32, rows: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read_write> pairs_made: array<vec2u>;
@group(0) @binding(3) var<storage, read> unsorted: array<vec2u>;
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> totals: array<u32>;
@group(0) @binding(6) var<storage, read> counts_saved: array<u32>;
@group(0) @binding(7) var<storage, read> totals_saved: array<u32>;

const DIGITS: u32 = 64u;

fn digit(key: u32) -> u32 { return (key >> params.shift) % DIGITS; }

@compute @workgroup_size(64)
fn pairs(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let index = indices[i];
  let valid = u32(index) < params.bound && index != params.skip;
  pairs_made[i] = vec2u(select(params.bound, u32(index), valid), i);
}

// indices [outer, middle, inner] into a middle dimension of `rows`: the key is the element of [outer, rows, inner].
@compute @workgroup_size(64)
fn pairs_flat(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let index = u32(indices[i]);
  let place = params.start + i;
  let key = (place / (params.middle * params.inner) * params.rows + index) * params.inner + place % params.inner;
  pairs_made[i] = vec2u(select(params.bound, key, index < params.rows), i);
}

// The place of each pair is the number of pairs before it.
@compute @workgroup_size(64)
fn rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let pair = unsorted[i];
  var before = 0u;
  for (var j = 0u; j < i; j++) { before += select(0u, 1u, unsorted[j].x <= pair.x); }
  for (var j = i + 1u; j < params.n; j++) { before += select(0u, 1u, unsorted[j].x < pair.x); }
  pairs_made[before] = pair;
}

@compute @workgroup_size(DIGITS)
fn count(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let segment = unfold(group, groups);
  if (segment >= params.segments) { return; }
  let end = min((segment + 1u) * params.length, params.n);
  var total = 0u;
  for (var i = segment * params.length; i < end; i++) { total += select(0u, 1u, digit(unsorted[i].x) == lane); }
  counts[lane * params.segments + segment] = total;
}

@compute @workgroup_size(DIGITS)
fn scan(@builtin(local_invocation_index) lane: u32) {
  var total = 0u;
  for (var s = lane * params.segments; s < (lane + 1u) * params.segments; s++) {
    let here = counts[s];
    counts[s] = total;
    total += here;
  }
  totals[lane] = total;
}

@compute @workgroup_size(DIGITS)
fn place(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let segment = unfold(group, groups);
  if (segment >= params.segments) { return; }
  var at = counts_saved[lane * params.segments + segment];
  for (var d = 0u; d < lane; d++) { at += totals_saved[d]; }
  let end = min((segment + 1u) * params.length, params.n);
  for (var i = segment * params.length; i < end; i++) {
    let pair = unsorted[i];
    if (digit(pair.x) == lane) {
      pairs_made[at] = pair;
      at++;
    }
  }
}
