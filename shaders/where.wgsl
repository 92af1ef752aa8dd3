// y = a where cond is not 0, else b, all three broadcast; bits are only moved. a and b are arrays or one word each.
// rank 0: all have y's shape. Thread: one element. Reads 2, writes 1.
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

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  var at = vec3u(select(0u, i, params.rank == 0u));
  var rest = i;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    let step = vec3u(params.strides_cond[e / 4u][e % 4u], params.strides_a[e / 4u][e % 4u], params.strides_b[e / 4u][e % 4u]);
    at += (rest % size) * step;
    rest /= size;
  }
  var word: u32;
  if (cond[at.x] != 0u) {
    word = params.a_word;
    if (params.has_a == 1u) { word = a[at.y]; }
  } else {
    word = params.b_word;
    if (params.has_b == 1u) { word = b[at.z]; }
  }
  y[i] = word;
}
