// y[o, indices[o, i, k], k] += source[o, i, k] for i = 0, 1, ...: y [outer, rows, inner], indices and source
// [outer, n, inner]. Indices out of range are left out. Thread: one (o, k), all of its sources in their order, so that
// no two threads meet. Reads 3 for each source, writes 1. Few and long lanes: shaders/add_rows.wgsl.
// use: lib/grid
struct Params { outer: u32, n: u32, inner: u32, rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read> source: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.inner) { return; }
  let k = i % params.inner;
  let outer = i / params.inner;
  for (var j = 0u; j < params.n; j++) {
    let at = (outer * params.n + j) * params.inner + k;
    let index = u32(indices[at]);
    if (index < params.rows) { y[(outer * params.rows + index) * params.inner + k] += source[at]; }
  }
}
