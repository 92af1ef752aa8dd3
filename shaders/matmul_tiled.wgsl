// c = f(scale op(a) op(b) + bias), in square tiles through workgroup memory: for GPUs. Any sizes and strides.
// Workgroup: one tile of TILE x TILE, in steps of DEPTH along K. Thread: 8 x 8 results, two groups of four rows by two of
// four columns, half a tile apart, so that neighbouring threads read neighbouring groups. Reads 2 M N K / TILE, writes M N.
// Loads are vec4 along the contiguous dimension where sizes are multiples of four, else single floats by
// lib/gemm_load_ones. See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
// use: lib/gemm_parts
// use: lib/gemm_load_fours
// use: lib/gemm_put_fours
// use: lib/gemm_store
const TILE: u32 = 128u;
const DEPTH: u32 = 16u;
const SIDE: u32 = TILE / 8u; // threads along a side
const FOURS: u32 = TILE / 4u; // groups of four along a side

var<workgroup> tile_a: array<vec4f, DEPTH * FOURS>; // [k][groups of rows]
var<workgroup> tile_b: array<vec4f, DEPTH * FOURS>; // [k][groups of columns]

// Four rows from m on of the four columns from n on, as far as the matrix reaches.
fn finish(batch: u32, m: u32, n: u32, sum: ptr<function, array<vec4f, 16>>, first: u32) {
  if (m >= params.M || n >= params.N) { return; }
  let add = bias_from(batch, n);
  let start = c_start(batch) + m * params.c_row;
  for (var r = 0u; r < min(4u, params.M - m); r++) { put(start + r * params.c_row, n, params.scale * (*sum)[first + r] + add); }
}

@compute @workgroup_size(SIDE, SIDE)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = tile_of(group, groups, TILE, TILE);
  let along_a = params.a_column == 1u && params.a_row != 1u; // a row of a lies along K
  let along_b = params.b_row == 1u && params.b_column != 1u;
  var sum: array<vec4f, 16>; // [rows 0..3, rows half a tile on][columns likewise]: four rows each
  for (var g = 0u; g < params.sums; g++) {
    if (!takes_part(g, tile.batch)) { continue; }
    let a0 = a_start(tile.batch, g);
    let b0 = b_start(tile.batch, g);
    for (var k0 = 0u; k0 < params.K; k0 += DEPTH) {
      workgroupBarrier();
      for (var t = lane; t < DEPTH * FOURS; t += SIDE * SIDE) {
        // Neighbouring threads read along whichever direction is contiguous.
        if (along_a) {
          let m = t / (DEPTH / 4u);
          let k = t % (DEPTH / 4u) * 4u;
          let v = part_a(a0, tile.row + m, k0 + k, true);
          for (var i = 0u; i < 4u; i++) { tile_a[(k + i) * FOURS + m / 4u][m % 4u] = v[i]; }
        } else {
          tile_a[t] = part_a(a0, tile.row + t % FOURS * 4u, k0 + t / FOURS, false);
        }
        if (along_b) {
          let n = t / (DEPTH / 4u);
          let k = t % (DEPTH / 4u) * 4u;
          let v = part_b(b0, tile.column + n, k0 + k, true);
          for (var i = 0u; i < 4u; i++) { tile_b[(k + i) * FOURS + n / 4u][n % 4u] = v[i]; }
        } else {
          tile_b[t] = part_b(b0, tile.column + t % FOURS * 4u, k0 + t / FOURS, false);
        }
      }
      workgroupBarrier();
      for (var k = 0u; k < DEPTH; k++) {
        let x0 = tile_a[k * FOURS + local.y];
        let x1 = tile_a[k * FOURS + SIDE + local.y];
        let y0 = tile_b[k * FOURS + local.x];
        let y1 = tile_b[k * FOURS + SIDE + local.x];
        for (var r = 0u; r < 4u; r++) {
          sum[r] += x0[r] * y0;
          sum[4u + r] += x0[r] * y1;
          sum[8u + r] += x1[r] * y0;
          sum[12u + r] += x1[r] * y1;
        }
      }
    }
  }
  let m = tile.row + local.y * 4u;
  let n = tile.column + local.x * 4u;
  finish(tile.batch, m, n, &sum, 0u);
  finish(tile.batch, m, n + TILE / 2u, &sum, 4u);
  finish(tile.batch, m + TILE / 2u, n, &sum, 8u);
  finish(tile.batch, m + TILE / 2u, n + TILE / 2u, &sum, 12u);
}
