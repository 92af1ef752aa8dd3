// log Σ exp(x) over the middle of x [outer, R, inner] as m + log s, m the maximum and s = Σ exp(x - m): exp never overflows.
//   parts: m and s of each of `parts` interleaved parts of x. join: of such pairs [outer, R, inner] the same again.
//   With parts = 1 either is the last, and leaves the result in m.
//   backward: dx = dy exp(x - y), a thread per element.
// The maximum is found among words in their order (lib/order), so NaN comes through; m that is not finite is the result.
// Thread: one column of one part. Reads x twice.
// use: lib/order
// use: lib/grid
struct Params { outer: u32, rows: u32, inner: u32, parts: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> part_m: array<f32>;
@group(0) @binding(3) var<storage, read> part_s: array<f32>;
@group(0) @binding(4) var<storage, read_write> m: array<f32>;
@group(0) @binding(5) var<storage, read_write> s: array<f32>;
@group(0) @binding(6) var<storage, read> y_saved: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;

// Where a thread's elements lie: from `first` on, `step` apart, up to `end`.
struct Part { first: u32, step: u32, end: u32 }

fn part_of(thread: u32) -> Part {
  let start = thread / (params.inner * params.parts) * params.rows * params.inner + thread % params.inner;
  let first = (thread / params.inner) % params.parts;
  return Part(start + first * params.inner, params.parts * params.inner, start + params.rows * params.inner);
}

fn is_finite(v: f32) -> bool { return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u; }

fn result(top: f32, sum: f32) -> f32 {
  if (params.parts > 1u || !is_finite(top)) { return top; }
  return top + log(sum);
}

@compute @workgroup_size(64)
fn parts(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.parts * params.inner) { return; }
  let p = part_of(i);
  var key = -LAST - 1;
  for (var c = p.first; c < p.end; c += p.step) { key = max(key, order_key(bitcast<u32>(x[c]), FLOATS)); }
  let top = bitcast<f32>(key_word(key, FLOATS));
  var sum = 0.0;
  if (is_finite(top)) {
    for (var c = p.first; c < p.end; c += p.step) { sum += exp(x[c] - top); }
  }
  m[i] = result(top, sum);
  s[i] = sum;
}

@compute @workgroup_size(64)
fn join(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.parts * params.inner) { return; }
  let p = part_of(i);
  var key = -LAST - 1;
  for (var c = p.first; c < p.end; c += p.step) { key = max(key, order_key(bitcast<u32>(part_m[c]), FLOATS)); }
  let top = bitcast<f32>(key_word(key, FLOATS));
  var sum = 0.0;
  if (is_finite(top)) {
    for (var c = p.first; c < p.end; c += p.step) { sum += part_s[c] * exp(part_m[c] - top); }
  }
  m[i] = result(top, sum);
  s[i] = sum;
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.rows * params.inner) { return; }
  let row = i / (params.rows * params.inner) * params.inner + i % params.inner;
  let y = y_saved[row];
  // -Inf: no element weighs anything.
  dx[i] = dy[row] * exp(x[i] - select(y, 0.0, bitcast<u32>(y) == 0xff800000u));
}
