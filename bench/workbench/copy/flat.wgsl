// A strided copy by one thread for each element, which takes its number apart, dimension by dimension. It lost to a grid
// that has the dimensions of the walk (shaders/copy.wgsl): divisions, and parameters looked up by a variable index, cost
// several times what the copy does.
// destination[strided] = source[strided]. Thread: one element. Reads 1, writes 1. lib/grid goes with it.
struct Params {
  n: u32, rank: u32, source_offset: u32, target_offset: u32,
  shape: array<vec4u, 2>, source_strides: array<vec4u, 2>, target_strides: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> destination: array<u32>;

@compute @workgroup_size(64)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  var rest = i;
  var source_at = params.source_offset;
  var target_at = params.target_offset;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    let place = rest % size;
    rest /= size;
    source_at += place * params.source_strides[e / 4u][e % 4u];
    target_at += place * params.target_strides[e / 4u][e % 4u];
  }
  destination[target_at] = source[source_at];
}
