// y = a ? b with broadcasting, 1 or 0. What is asked is a set of the four ways in which two numbers may lie: `accepts`
// has bit 0 for a < b, 1 for a = b, 2 for a > b, 3 for neither (one is NaN). `kind` is the type of both (lib/order).
// b is an array or one number. `flat`: both have y's shape, a thread for four elements. `general`: any strides, a thread
// for one. Reads 2, writes 1.
// use: lib/order
// use: lib/grid
struct Params {
  n: u32, rank: u32, kind: u32, accepts: u32, has_b: u32, b_word: u32,
  shape: array<vec4u, 2>, strides_a: array<vec4u, 2>, strides_b: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<storage, read> a_fours: array<vec4u>;
@group(0) @binding(2) var<storage, read> b_fours: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> y_fours: array<vec4u>;

fn answer(left: u32, right: u32) -> u32 {
  let l = number_key(left, params.kind);
  let r = number_key(right, params.kind);
  let neither = is_nan(left, params.kind) || is_nan(right, params.kind);
  let way = select(select(select(1u, 2u, l == r), 4u, l > r), 8u, neither);
  return select(0u, 1u, (params.accepts & way) != 0u);
}

@compute @workgroup_size(64)
fn flat(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let left = a_fours[i];
  var right = vec4u(params.b_word);
  if (params.has_b == 1u) { right = b_fours[i]; }
  y_fours[i] = vec4u(answer(left.x, right.x), answer(left.y, right.y), answer(left.z, right.z), answer(left.w, right.w));
}

@compute @workgroup_size(64)
fn general(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  var at = vec2u();
  var rest = i;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    at += (rest % size) * vec2u(params.strides_a[e / 4u][e % 4u], params.strides_b[e / 4u][e % 4u]);
    rest /= size;
  }
  var right = params.b_word;
  if (params.has_b == 1u) { right = b[at.y]; }
  y[i] = answer(a[at.x], right);
}
