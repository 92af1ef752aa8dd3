// c = f(scale op(a) op(b) + bias), in tiles of 64 × 64 through workgroup memory: for GPUs. Any sizes and strides.
// Workgroup: one tile, 256 threads, 4 × 4 results each. Reads (M K N / 64) · 2, writes M N. See shaders/lib/gemm.wgsl.
// use: lib/gemm
// use: lib/gemm_store
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
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

var<workgroup> tile_a: array<f32, 1024>; // [DEPTH][TILE]
var<workgroup> tile_b: array<f32, 1024>;

@compute @workgroup_size(16, 16)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = tile_of(group, groups, TILE, TILE);
  var sum: array<vec4f, 4>;
  for (var g = 0u; g < params.sums; g++) {
    if (!takes_part(g, tile.batch)) { continue; }
    let a0 = a_start(tile.batch, g);
    let b0 = b_start(tile.batch, g);
    for (var k0 = 0u; k0 < params.K; k0 += DEPTH) {
      workgroupBarrier();
      for (var t = lane; t < TILE * DEPTH; t += 256u) {
        // Neighbouring threads read along whichever direction is contiguous.
        let along_a = select(vec2u(t / DEPTH, t % DEPTH), vec2u(t % TILE, t / TILE), params.a_row == 1u);
        let m = tile.row + along_a.x;
        let ka = k0 + along_a.y;
        tile_a[along_a.y * TILE + along_a.x] = select(0.0, load_a(a0 + m * params.a_row + ka * params.a_column), m < params.M && ka < params.K);
        let along_b = select(vec2u(t / DEPTH, t % DEPTH), vec2u(t % TILE, t / TILE), params.b_column == 1u);
        let n = tile.column + along_b.x;
        let kb = k0 + along_b.y;
        tile_b[along_b.y * TILE + along_b.x] = select(0.0, load_b(b0 + kb * params.b_row + n * params.b_column), n < params.N && kb < params.K);
      }
      workgroupBarrier();
      for (var k = 0u; k < DEPTH; k++) {
        let base = k * TILE + local.x * 4u;
        let row = vec4f(tile_b[base], tile_b[base + 1u], tile_b[base + 2u], tile_b[base + 3u]);
        for (var r = 0u; r < 4u; r++) { sum[r] += tile_a[k * TILE + local.y * 4u + r] * row; }
      }
    }
  }
  finish(tile.batch, tile.row + local.y * 4u, tile.column + local.x * 4u, &sum);
}

// The same without workgroup memory, for software adapters whose subgroups do not suit shaders/matmul_subgroup.wgsl,
// and for aᵀ bᵀ. Thread: 4 × 4 results.
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
