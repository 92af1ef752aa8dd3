// y = value(a, b) with broadcasting. The expression is specialised by each row of src/ops/binary.ts.
// `same`: both have y's shape. `suffix`: b is y's last dimensions, a has y's shape. `general`: any strides.
// One thread per element, in `suffix` for four, in `same` for four groups of four a workgroup's width apart.
// Reads 2, writes 1.
// use: lib/vec4
// use: lib/nan
// use: lib/power
// use: lib/grid
struct Params { n: u32, n_b: u32, rank: u32, shape: array<vec4u, 2>, strides_a: array<vec4u, 2>, strides_b: array<vec4u, 2> }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<E>;
@group(0) @binding(2) var<storage, read> b: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<E>;

// The elements: floats, or four or one of i32 or u32.
alias E = T;
fn value(a: E, b: E) -> E { return a; }

@compute @workgroup_size(64)
fn same(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * 256u + lane;
  for (var i = first; i < min(first + 256u, params.n); i += 64u) { y[i] = value(a[i], b[i]); }
}

@compute @workgroup_size(64)
fn suffix(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i < params.n) { y[i] = value(a[i], b[i % params.n_b]); }
}

// Takes lib/scalar in place of lib/vec4.
@compute @workgroup_size(64)
fn general(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  var rest = i;
  var ia = 0u;
  var ib = 0u;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    let place = rest % size;
    rest /= size;
    ia += place * params.strides_a[e / 4u][e % 4u];
    ib += place * params.strides_b[e / 4u][e % 4u];
  }
  y[i] = value(a[ia], b[ib]);
}
