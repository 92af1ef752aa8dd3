// Clipping by value: g = -limit below -limit, limit above it. Decided by bits: NaN, which comparison does not see, stays.
// Thread: one element. Reads 1, writes 1.
// use: lib/grid
struct Params { n: u32, limit: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> gradient: array<u32>;

@compute @workgroup_size(64)
fn clip(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let bits = gradient[i];
  let size = bits & 0x7fffffffu;
  let limit = bitcast<u32>(params.limit);
  // Floats of one sign are in the order of their bits, and those of NaN are above infinity's.
  if (size > limit && size <= 0x7f800000u) { gradient[i] = (bits & 0x80000000u) | limit; }
}
