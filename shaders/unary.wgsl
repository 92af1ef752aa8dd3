// y = value(x), NaN where x is NaN, and dx = dy · slope. The two expressions are specialised by each row of
// src/ops/unary.ts; a and b are the op's numbers (the bounds of clamp, the factor of scale).
// x [n] -> y [n], in groups of four. Thread: four groups, a workgroup's width apart. Reads 1 (backward 2), writes 1.
// use: lib/vec4
// use: lib/math
// use: lib/logarithm
// use: lib/power
// use: lib/trigonometry
// use: lib/nan
// use: lib/grid
struct Params { n: u32, a: f32, b: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read> dy: array<T>;
@group(0) @binding(4) var<storage, read_write> dx: array<T>;

fn value(x: T) -> T { return x; }
// The derivative in terms of what the op saves: its input or its output.
fn slope(v: T) -> T { return v; }

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * 256u + lane;
  for (var i = first; i < min(first + 256u, params.n); i += 64u) { y[i] = keep_nan(x[i], value(x[i])); }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * 256u + lane;
  for (var i = first; i < min(first + 256u, params.n); i += 64u) { dx[i] = dy[i] * slope(x[i]); }
}
