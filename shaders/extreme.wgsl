// The largest (or, with `flip`, the smallest) of x [outer, R, inner] over its middle, as words in their order (lib/order).
// Each of `parts` threads takes every parts-th element, neighbours read neighbours; a further call does the parts.
//   value: y [outer, parts, inner], the element itself.
//   index: chosen [outer, parts, inner], where it lies among `length`; of equals the first. The elements are those that
//     `candidates` [outer, R, inner] names, or with has_candidates = 0 all.
// NaN wins in both with nan_wins, as it does without `flip` anyway. Reads x once.
//   take: the k best of each row in order, from the best of each group: element i is in group i mod groups of `first`,
//     that in group i mod groups mod tops of `second`. Of one row, k · (2 tops + R / groups + 2 groups / tops) elements
//     are read: one thread does a row, so its own writes need no barrier.
// use: lib/order
// use: lib/grid
struct Params {
  outer: u32, rows: u32, inner: u32, parts: u32, kind: u32, flip: u32, nan_wins: u32, length: u32,
  has_candidates: u32, groups: u32, tops: u32, k: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<storage, read> candidates: array<u32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(5) var<storage, read_write> first: array<u32>;
@group(0) @binding(6) var<storage, read_write> second: array<u32>;

const NONE: u32 = 0xffffffffu;

fn flip() -> i32 { return select(0i, -1i, params.flip == 1u); }

@compute @workgroup_size(64)
fn value(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.parts * params.inner) { return; }
  let column = i % params.inner;
  let part = (i / params.inner) % params.parts;
  let start = i / (params.inner * params.parts) * params.rows;
  var best = -LAST - 1;
  for (var r = part; r < params.rows; r += params.parts) {
    let word = x[(start + r) * params.inner + column];
    best = max(best, select(order_key(word, params.kind) ^ flip(), LAST, is_nan(word, params.kind)));
  }
  y[i] = key_word(best ^ flip(), params.kind);
}

struct Best { key: i32, at: u32 }

// Larger keys first, then lower places.
fn is_before(a: Best, b: Best) -> bool { return b.at == NONE || a.key > b.key || (a.key == b.key && a.at < b.at); }

fn key_of(word: u32) -> i32 {
  let wins = params.nan_wins == 1u && is_nan(word, params.kind);
  return select(number_key(word, params.kind) ^ flip(), LAST, wins);
}

@compute @workgroup_size(64)
fn index(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.parts * params.inner) { return; }
  let column = i % params.inner;
  let part = (i / params.inner) % params.parts;
  let outer = i / (params.inner * params.parts);
  var best = Best(0, NONE);
  for (var r = part; r < params.rows; r += params.parts) {
    var at = r;
    if (params.has_candidates == 1u) { at = candidates[(outer * params.rows + r) * params.inner + column]; }
    let one = Best(key_of(x[(outer * params.length + at) * params.inner + column]), at);
    if (is_before(one, best)) { best = one; }
  }
  chosen[i] = best.at;
}

@compute @workgroup_size(64)
fn take(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = unfold(group, groups) * 64u + lane;
  if (row >= params.outer) { return; }
  let base = row * params.length;
  let firsts = row * params.groups;
  let seconds = row * params.tops;
  for (var j = 0u; j < params.k; j++) {
    var best = Best(0, NONE);
    for (var t = 0u; t < params.tops; t++) {
      let at = second[seconds + t];
      if (at == NONE) { continue; }
      let one = Best(key_of(x[base + at]), at);
      if (is_before(one, best)) { best = one; }
    }
    chosen[row * params.k + j] = best.at;
    // What is behind it in the order is still there: nothing is marked as taken.
    let g = best.at % params.groups;
    var next = Best(0, NONE);
    for (var at = g; at < params.length; at += params.groups) {
      let one = Best(key_of(x[base + at]), at);
      if (is_before(best, one) && at != best.at && is_before(one, next)) { next = one; }
    }
    first[firsts + g] = next.at;
    var top = Best(0, NONE);
    for (var f = g % params.tops; f < params.groups; f += params.tops) {
      let at = first[firsts + f];
      if (at == NONE) { continue; }
      let one = Best(key_of(x[base + at]), at);
      if (is_before(one, top)) { top = one; }
    }
    second[seconds + g % params.tops] = top.at;
  }
}
