// Clipping by global norm over a flat arena: norm = sqrt Σ g², g *= min(1, limit / (norm + 1e-6)).
// `partial`: one sum for each workgroup's 4096 elements; `finish`: their root; `clip`: the scaling. Nothing is read back.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { n: u32, parts: u32, limit: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<T>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;
@group(0) @binding(3) var<storage, read> sums_saved: array<f32>;
@group(0) @binding(4) var<storage, read_write> norm: array<f32>;
@group(0) @binding(5) var<storage, read> norm_saved: array<f32>;
@group(0) @binding(6) var<storage, read_write> scaled: array<T>;

@compute @workgroup_size(LANES)
fn partial(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let part = unfold(group, groups);
  if (part >= params.parts) { return; }
  var sum = T(0.0);
  for (var i = part * 1024u + lane; i < min((part + 1u) * 1024u, params.n); i += LANES) { sum += gradient[i] * gradient[i]; }
  let total = row_sum(fold_sum(sum), lane);
  if (lane == 0u) { sums[part] = total; }
}

@compute @workgroup_size(LANES)
fn finish(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.parts; i += LANES) { sum += sums_saved[i]; }
  let total = row_sum(sum, lane);
  if (lane == 0u) { norm[0] = sqrt(total); }
}

@compute @workgroup_size(64)
fn clip(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i < params.n) { scaled[i] *= min(1.0, params.limit / (norm_saved[0] + 1e-6)); }
}
