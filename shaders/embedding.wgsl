// Rows of a table: y[i] = table[ids[i]]. ids [n] i32, table [V, C] -> y [n, C]. Thread: one group of one row.
// Ids are checked on the host. The gradient: shaders/add_rows.wgsl.
// use: lib/vec4
// use: lib/grid
struct Params { n: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read> table: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n * params.columns) { return; }
  y[i] = table[u32(ids[i / params.columns]) * params.columns + i % params.columns];
}
