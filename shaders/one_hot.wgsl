// y[i, c] = 1 where c = ids[i], else 0. ids [rows] i32 -> y [rows, C]. Thread: one element. Reads 1, writes 1.
// use: lib/grid
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.rows * params.classes) { return; }
  y[i] = select(0.0, 1.0, u32(ids[i / params.classes]) == i % params.classes);
}
