// total += x, element by element. What follows the n elements of `total` in its memory keeps its value.
// Thread: four groups of four elements, a workgroup's width apart. Reads 2, writes 1.
// use: lib/grid
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> total: array<vec4f>;

@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * 256u + lane;
  for (var k = 0u; k < 4u; k++) { add_four(first + 64u * k); }
}

fn add_four(i: u32) {
  if (4u * i + 4u <= params.n) {
    total[i] += x[i];
  } else if (4u * i < params.n) {
    for (var j = 0u; j < params.n - 4u * i; j++) { total[i][j] += x[i][j]; }
  }
}
