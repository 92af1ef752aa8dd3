// y[o, i, k] = x[o, index, k], bit for bit whatever the elements are: x [outer, rows, inner], indices [outer, n, inner]
// or [n] (`shared`) -> y [outer, n, inner]. An index out of range gives NaN, in i32 and u32 the same bits.
// x holds `rows` rows from `first` on, of `all`: one beyond a binding is run through in ranges, each of which leaves the
// indices of the others alone. Thread: one element. Reads 2, writes 1.
// use: lib/grid
struct Params { outer: u32, n: u32, inner: u32, first: u32, rows: u32, all: u32, shared_indices: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> indices: array<i32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

const NAN_BITS: u32 = 0x7fc00000u;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let e = unfold(group, groups) * 64u + lane;
  if (e >= params.outer * params.n * params.inner) { return; }
  let k = e % params.inner;
  let outer = e / (params.inner * params.n);
  let index = u32(indices[select(e, (e / params.inner) % params.n, params.shared_indices == 1u)]);
  let row = index - params.first;
  if (index >= params.all) {
    y[e] = NAN_BITS;
  } else if (row < params.rows) {
    y[e] = x[(outer * params.rows + row) * params.inner + k];
  }
}
