// Rows of a table: y[i] = table[ids[i]]. ids [n] i32, table [V, C] -> y [n, C]. Thread: one group of one row.
// An id out of range gives NaN. The gradient: shaders/add_rows.wgsl.
// `table` holds the `rows` rows from `first` on, of `all`: one beyond a binding is run through in ranges, each of which
// leaves the ids of the others alone.
// use: lib/vec4
// use: lib/grid
alias stored = T; // words, where the table is of halves
struct Params { n: u32, columns: u32, first: u32, rows: u32, all: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<i32>;
@group(0) @binding(2) var<storage, read> table: array<stored>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

const NAN_BITS: u32 = 0x7fc00000u;

fn row_at(i: u32) -> T { return table[i]; }

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n * params.columns) { return; }
  let id = u32(ids[i / params.columns]);
  // Not a constant: WGSL refuses one that is no number.
  if (id >= params.all) { y[i] = T(bitcast<f32>(NAN_BITS | (id & 1u))); return; }
  let row = id - params.first; // rows or more where it lies in another range
  if (row < params.rows) { y[i] = row_at(row * params.columns + i % params.columns); }
}
