// Which slices (experts) a step has used. marks[m] = (first, count, flags, all): drawn[flags + routes[first + i]] = 1
// for i < count, and drawn[flags + i] = 1 for i < all. Thread: one mark. Several marks may set the same flag.
struct Params { n: u32, marks: array<vec4u, 60> }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> routes: array<i32>;
@group(0) @binding(2) var<storage, read_write> drawn: array<atomic<u32>>;

@compute @workgroup_size(64)
fn mark(@builtin(local_invocation_index) m: u32) {
  if (m >= params.n) { return; }
  let at = params.marks[m];
  for (var i = 0u; i < at.y; i++) { atomicStore(&drawn[at.z + u32(routes[at.x + i])], 1u); }
  for (var i = 0u; i < at.w; i++) { atomicStore(&drawn[at.z + i], 1u); }
}
