// Conversions between element types. Thread: one word of the halves (two elements), or one element.
// widen: a half is read and its value written as f32, exactly. narrow: rounded to nearest even by whole numbers alone,
// since drivers round and flush in their own ways. convert: one 32-bit type to another. Reads 1, writes 1.
// use: lib/halves
// use: lib/grid
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> halves: array<u32>;
@group(0) @binding(2) var<storage, read_write> wide: array<u32>;
@group(0) @binding(3) var<storage, read> wide_saved: array<u32>;
@group(0) @binding(4) var<storage, read_write> rounded: array<u32>;
@group(0) @binding(5) var<storage, read> x: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<u32>;

// The expression is specialised by each pair of types in src/ops/cast.ts.
fn value(v: u32) -> u32 { return v; }

@compute @workgroup_size(64)
fn widen(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (2u * i >= params.n) { return; }
  let word = halves[i];
  wide[2u * i] = half_to_f32(word & 0xffffu);
  if (2u * i + 1u < params.n) { wide[2u * i + 1u] = half_to_f32(word >> 16u); }
}

@compute @workgroup_size(64)
fn narrow(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (2u * i >= params.n) { return; }
  var upper = 0u;
  if (2u * i + 1u < params.n) { upper = f32_to_half(wide_saved[2u * i + 1u]); }
  rounded[i] = f32_to_half(wide_saved[2u * i]) | (upper << 16u);
}

@compute @workgroup_size(64)
fn convert(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i < params.n) { y[i] = value(x[i]); }
}
