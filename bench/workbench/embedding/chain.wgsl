// The gradient of an embedding by chains, which lost to a stable sort of (id, position) (shaders/group.wgsl and
// shaders/add_rows.wgsl): the links cost n² comparisons of ids, and one thread walks all rows of a frequent id.
// ids [n] i32, dy [n, C] -> dtable [V, C], zeroed before. Thread: `chain` one position, `backward_table` one column of one.
// lib/vec4 or lib/scalar and lib/grid go with it.
struct Params { n: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read_write> next: array<u32>;
@group(0) @binding(3) var<storage, read> next_saved: array<u32>;
@group(0) @binding(4) var<storage, read> dy: array<T>;
@group(0) @binding(5) var<storage, read_write> dtable: array<T>;

// next[i]: the next position with the same id, n if there is none; with FOLLOWER set if an earlier one exists.
const FOLLOWER: u32 = 0x80000000u;

@compute @workgroup_size(64)
fn chain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let id = ids[i];
  var flag = 0u;
  for (var j = 0u; j < i; j++) { if (ids[j] == id) { flag = FOLLOWER; break; } }
  var j = i + 1u;
  for (; j < params.n; j++) { if (ids[j] == id) { break; } }
  next[i] = j | flag;
}

@compute @workgroup_size(64)
fn backward_table(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let k = unfold(group, groups) * 64u + lane;
  if (k >= params.n * params.columns) { return; }
  let i = k / params.columns;
  let c = k % params.columns;
  if ((next_saved[i] & FOLLOWER) != 0u) { return; }
  var sum = T(0.0);
  for (var j = i; j < params.n; j = next_saved[j] & ~FOLLOWER) { sum += dy[j * params.columns + c]; }
  dtable[u32(ids[i]) * params.columns + c] = sum;
}
