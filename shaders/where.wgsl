// y = a where cond is not 0, else b, all three broadcast; bits are only moved. a and b are arrays or one word each.
// `flat`: all have y's shape, a thread for four elements. `general`: any strides, a thread for one. Reads 3, writes 1.
// use: lib/grid
struct Params {
  n: u32, rank: u32, has_a: u32, has_b: u32, a_word: u32, b_word: u32,
  shape: array<vec4u, 2>, strides_cond: array<vec4u, 2>, strides_a: array<vec4u, 2>, strides_b: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cond: array<u32>;
@group(0) @binding(2) var<storage, read> a: array<u32>;
@group(0) @binding(3) var<storage, read> b: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<storage, read> cond_fours: array<vec4u>;
@group(0) @binding(2) var<storage, read> a_fours: array<vec4u>;
@group(0) @binding(3) var<storage, read> b_fours: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> y_fours: array<vec4u>;

@compute @workgroup_size(64)
fn flat(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  var then = vec4u(params.a_word);
  if (params.has_a == 1u) { then = a_fours[i]; }
  var otherwise = vec4u(params.b_word);
  if (params.has_b == 1u) { otherwise = b_fours[i]; }
  y_fours[i] = select(otherwise, then, cond_fours[i] != vec4u(0u));
}

@compute @workgroup_size(64)
fn general(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  var at = vec3u();
  var rest = i;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    let step = vec3u(params.strides_cond[e / 4u][e % 4u], params.strides_a[e / 4u][e % 4u], params.strides_b[e / 4u][e % 4u]);
    at += (rest % size) * step;
    rest /= size;
  }
  var then = params.a_word;
  if (params.has_a == 1u) { then = a[at.y]; }
  var otherwise = params.b_word;
  if (params.has_b == 1u) { otherwise = b[at.z]; }
  y[i] = select(otherwise, then, cond[at.x] != 0u);
}
