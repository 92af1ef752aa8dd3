// y[i, c] = 1 where c = ids[i], else 0; an id out of range gives NaN. ids [rows] i32 -> y [rows, C]. Thread: one element. Reads 1, writes 1.
// use: lib/grid
struct Params { rows: u32, classes: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // bits: no expression of WGSL may be NaN

const NAN_BITS: u32 = 0x7fc00000u;
const ONE_BITS: u32 = 0x3f800000u;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.rows * params.classes) { return; }
  let id = u32(ids[i / params.classes]); // a negative one lies beyond all classes
  let bits = select(0u, ONE_BITS, id == i % params.classes);
  y[i] = select(bits, NAN_BITS, id >= params.classes);
}
