// Rows of a table: y[i] = table[ids[i]]. ids [n] i32, table [V, C] -> y [n, C]. Thread: one group of one row.
// The gradient adds up rows with equal ids in the order of i, without atomics: `chain` links each i to the next
// one with the same id, and the first of each chain walks it. Ids are checked on the host.
// `table` and `dtable` hold the `rows` rows from `first` on, of `all`: one beyond a binding is run through in ranges,
// each of which leaves the ids of the others alone.
// use: lib/vec4
// use: lib/grid
struct Params { n: u32, columns: u32, padding: i32, first: u32, rows: u32, all: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read> table: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> next: array<u32>;
@group(0) @binding(5) var<storage, read> next_saved: array<u32>;
@group(0) @binding(6) var<storage, read> dy: array<T>;
@group(0) @binding(7) var<storage, read_write> dtable: array<T>;

// The place of an id's row in this range; `rows` or more where it lies in another. Ids out of range read the last row.
fn place(id: i32) -> u32 { return min(u32(id), params.all - 1u) - params.first; }

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n * params.columns) { return; }
  let row = place(ids[i / params.columns]);
  if (row < params.rows) { y[i] = table[row * params.columns + i % params.columns]; }
}

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

// Adds to dtable, which was zeroed. The row `padding` (-1: none) gets no gradient.
@compute @workgroup_size(64)
fn backward_table(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let k = unfold(group, groups) * 64u + lane;
  if (k >= params.n * params.columns) { return; }
  let i = k / params.columns;
  let c = k % params.columns;
  if ((next_saved[i] & FOLLOWER) != 0u || ids[i] == params.padding) { return; }
  let row = place(ids[i]);
  if (row >= params.rows) { return; }
  var sum = dtable[row * params.columns + c];
  for (var j = i; j < params.n; j = next_saved[j] & ~FOLLOWER) { sum += dy[j * params.columns + c]; }
  dtable[row * params.columns + c] = sum;
}
