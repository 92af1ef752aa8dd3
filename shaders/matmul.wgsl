// c = f(scale op(a) op(b) + bias), any sizes and strides: for software adapters whose subgroups do not suit
// shaders/matmul_subgroup.wgsl, and for aᵀ bᵀ. Thread: 4 × 4 results. Reads M K N / 2, writes M N. See shaders/lib/gemm.wgsl.
// use: lib/gemm
// use: lib/gemm_store
alias stored_b = f32;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<stored_b>;

fn load_a(i: u32) -> f32 { return a[i]; }
fn load_b(i: u32) -> f32 { return b[i]; }

// Four rows from m on of the four columns from n on, as far as the matrix reaches.
fn finish(batch: u32, m: u32, n: u32, sum: ptr<function, array<vec4f, 4>>) {
  if (m >= params.M || n >= params.N) { return; }
  let add = bias_from(batch, n);
  let start = c_start(batch) + m * params.c_row + n;
  for (var r = 0u; r < min(4u, params.M - m); r++) {
    store_some(start + r * params.c_row, min(4u, params.N - n), params.scale * (*sum)[r] + add);
  }
}

@compute @workgroup_size(8, 8)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = tile_of(group, groups, 32u, 32u);
  let m = tile.row + local.y * 4u;
  let n = tile.column + local.x * 4u;
  let rows = min(vec4u(m) + vec4u(0u, 1u, 2u, 3u), vec4u(params.M - 1u)) * params.a_row;
  let columns = min(vec4u(n) + vec4u(0u, 1u, 2u, 3u), vec4u(params.N - 1u)) * params.b_column;
  var sum: array<vec4f, 4>;
  for (var g = 0u; g < params.sums; g++) {
    if (!takes_part(g, tile.batch)) { continue; }
    let a0 = a_start(tile.batch, g);
    let b0 = b_start(tile.batch, g);
    for (var k = 0u; k < params.K; k++) {
      let kb = b0 + k * params.b_row;
      let ka = a0 + k * params.a_column;
      let x = vec4f(load_b(kb + columns.x), load_b(kb + columns.y), load_b(kb + columns.z), load_b(kb + columns.w));
      sum[0] += load_a(ka + rows.x) * x;
      sum[1] += load_a(ka + rows.y) * x;
      sum[2] += load_a(ka + rows.z) * x;
      sum[3] += load_a(ka + rows.w) * x;
    }
  }
  finish(tile.batch, m, n, &sum);
}
