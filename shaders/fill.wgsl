// destination = constant, the same 32 bits in each of n words. What follows them in the destination's memory keeps its
// value. Thread: four groups of four words, a workgroup's width apart. Writes 1.
// use: lib/grid
struct Params { n: u32, constant: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> destination: array<vec4u>;

@compute @workgroup_size(64)
fn words(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * 256u + lane;
  for (var k = 0u; k < 4u; k++) { fill_four(first + 64u * k); }
}

fn fill_four(i: u32) {
  if (4u * i + 4u <= params.n) {
    destination[i] = vec4u(params.constant);
  } else if (4u * i < params.n) {
    for (var j = 0u; j < params.n - 4u * i; j++) { destination[i][j] = params.constant; }
  }
}
