// c = scale op(a) op(b) + bias, in tiles of 64 × 64 through workgroup memory: for GPUs. Any sizes and strides. Workgroup: one tile, 256 threads, 4 × 4 results each.
// Reads (M K N / 64) · 2, writes M N. See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;

var<workgroup> tile_a: array<f32, 1024>; // [DEPTH][TILE]
var<workgroup> tile_b: array<f32, 1024>;

@compute @workgroup_size(16, 16)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z;
  let row0 = group.y * TILE;
  let column0 = group.x * TILE;
  var sum: array<vec4f, 4>;
  for (var g = 0u; g < group_count(); g++) {
    if (!takes_part(g, batch)) { continue; }
    let a0 = a_start(batch, g);
    let b0 = b_start(batch, g);
    for (var k0 = 0u; k0 < params.K; k0 += DEPTH) {
      workgroupBarrier();
      for (var t = lane; t < TILE * DEPTH; t += 256u) {
        // Neighbouring threads read along whichever direction is contiguous.
        let along_a = select(vec2u(t / DEPTH, t % DEPTH), vec2u(t % TILE, t / TILE), params.a_row == 1u);
        let m = row0 + along_a.x;
        let ka = k0 + along_a.y;
        tile_a[along_a.y * TILE + along_a.x] = select(0.0, a[a0 + m * params.a_row + ka * params.a_column], m < params.M && ka < params.K);
        let along_b = select(vec2u(t / DEPTH, t % DEPTH), vec2u(t % TILE, t / TILE), params.b_column == 1u);
        let n = column0 + along_b.x;
        let kb = k0 + along_b.y;
        tile_b[along_b.y * TILE + along_b.x] = select(0.0, b[b0 + kb * params.b_row + n * params.b_column], n < params.N && kb < params.K);
      }
      workgroupBarrier();
      for (var k = 0u; k < DEPTH; k++) {
        let base = k * TILE + local.x * 4u;
        let row = vec4f(tile_b[base], tile_b[base + 1u], tile_b[base + 2u], tile_b[base + 3u]);
        for (var r = 0u; r < 4u; r++) { sum[r] += tile_a[k * TILE + local.y * 4u + r] * row; }
      }
    }
  }
  for (var r = 0u; r < 4u; r++) {
    let m = row0 + local.y * 4u + r;
    if (m >= params.M) { break; }
    for (var s = 0u; s < 4u; s++) {
      let n = column0 + local.x * 4u + s;
      if (n < params.N) { c[c_start(batch) + m * params.c_row + n] = params.scale * sum[r][s] + bias_at(batch, n); }
    }
  }
}

// The same without workgroup memory, for software adapters where sizes do not suit shaders/matmul_subgroup.wgsl.
// Thread: 4 × 4 results.
@compute @workgroup_size(8, 8)
fn plain(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let batch = group.z;
  let row0 = (group.y * 8u + local.y) * 4u;
  let column0 = (group.x * 8u + local.x) * 4u;
  if (row0 >= params.M || column0 >= params.N) { return; }
  let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(params.M - 1u)) * params.a_row;
  let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(params.N - 1u)) * params.b_column;
  var sum: array<vec4f, 4>;
  for (var g = 0u; g < group_count(); g++) {
    if (!takes_part(g, batch)) { continue; }
    let a0 = a_start(batch, g);
    let b0 = b_start(batch, g);
    for (var k = 0u; k < params.K; k++) {
      let kb = b0 + k * params.b_row;
      let ka = a0 + k * params.a_column;
      let x = vec4f(b[kb + columns.x], b[kb + columns.y], b[kb + columns.z], b[kb + columns.w]);
      sum[0] += a[ka + rows.x] * x;
      sum[1] += a[ka + rows.y] * x;
      sum[2] += a[ka + rows.z] * x;
      sum[3] += a[ka + rows.w] * x;
    }
  }
  for (var r = 0u; r < min(4u, params.M - row0); r++) {
    for (var s = 0u; s < min(4u, params.N - column0); s++) {
      c[c_start(batch) + (row0 + r) * params.c_row + column0 + s] = params.scale * sum[r][s] + bias_at(batch, column0 + s);
    }
  }
}
