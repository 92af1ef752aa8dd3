// Which slices (experts) a step has used. marks[m] = (first, count, flags, all): drawn[flags + routes[first + i]] = 1
// for i < count, and drawn[flags + i] = 1 for i < all. Workgroup: one mark. Several may set the same flag.
struct Params { n: u32, marks: array<vec4u, 60> }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> routes: array<i32>;
@group(0) @binding(2) var<storage, read_write> drawn: array<atomic<u32>>;

@compute @workgroup_size(64)
fn mark(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (group.x >= params.n) { return; }
  let at = params.marks[group.x];
  for (var i = lane; i < at.y; i += 64u) { atomicStore(&drawn[at.z + u32(routes[at.x + i])], 1u); }
  for (var i = lane; i < at.w; i += 64u) { atomicStore(&drawn[at.z + i], 1u); }
}
