// c = f(scale op(a) op(b) + bias), in tiles through workgroup memory: for GPUs. Any sizes and strides.
// Workgroup: one tile of ROWS x COLUMNS, in steps of DEPTH along K; square ones, and for low ranks narrow ones. Thread: of
// rows and of columns GROUPS groups of four, spread over the tile so that neighbouring threads read neighbouring groups.
// Reads M N K (1 / ROWS + 1 / COLUMNS), writes M N.
// Loads are vec4 along the contiguous dimension where sizes are multiples of four, else single floats by
// lib/gemm_load_ones. See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
// use: lib/gemm_parts
// use: lib/gemm_load_fours
// use: lib/gemm_put_fours
// use: lib/gemm_store
const ROWS: u32 = 128u;
const COLUMNS: u32 = 128u;
const DEPTH: u32 = 16u;
const GROUPS: u32 = 2u;
const DOWN: u32 = ROWS / (4u * GROUPS); // threads along a column
const ACROSS: u32 = COLUMNS / (4u * GROUPS); // threads along a row
const THREADS: u32 = DOWN * ACROSS;
// A step of a tile has a group to spare where memory allows it: those who store along K then meet in fewer banks.
const SPARE: u32 = select(0u, 1u, ROWS + COLUMNS <= 128u);
const SIDE_A: u32 = ROWS / 4u + SPARE;
const SIDE_B: u32 = COLUMNS / 4u + SPARE;

var<workgroup> tile_a: array<vec4f, DEPTH * SIDE_A>; // [k][groups of rows]
var<workgroup> tile_b: array<vec4f, DEPTH * SIDE_B>; // [k][groups of columns]

// The tile's steps from k0 on. Neighbouring threads read along whichever direction is contiguous: `along`, K.
fn fill_a(start: u32, row: u32, k0: u32, along: bool, lane: u32) {
  for (var t = lane; t < DEPTH * ROWS / 4u; t += THREADS) {
    if (along) {
      let m = t / (DEPTH / 4u);
      let k = t % (DEPTH / 4u) * 4u;
      let v = part_a(start, row + m, k0 + k, true);
      for (var i = 0u; i < 4u; i++) { tile_a[(k + i) * SIDE_A + m / 4u][m % 4u] = v[i]; }
    } else {
      let m = t % (ROWS / 4u);
      let k = t / (ROWS / 4u);
      tile_a[k * SIDE_A + m] = part_a(start, row + m * 4u, k0 + k, false);
    }
  }
}
fn fill_b(start: u32, column: u32, k0: u32, along: bool, lane: u32) {
  for (var t = lane; t < DEPTH * COLUMNS / 4u; t += THREADS) {
    if (along) {
      let n = t / (DEPTH / 4u);
      let k = t % (DEPTH / 4u) * 4u;
      let v = part_b(start, column + n, k0 + k, true);
      for (var i = 0u; i < 4u; i++) { tile_b[(k + i) * SIDE_B + n / 4u][n % 4u] = v[i]; }
    } else {
      let n = t % (COLUMNS / 4u);
      let k = t / (COLUMNS / 4u);
      tile_b[k * SIDE_B + n] = part_b(start, column + n * 4u, k0 + k, false);
    }
  }
}

// Four rows from m on of the four columns from n on, as far as the matrix reaches.
fn finish(batch: u32, m: u32, n: u32, sum: ptr<function, array<vec4f, 4u * GROUPS * GROUPS>>, first: u32) {
  if (m >= params.M || n >= params.N) { return; }
  let add = bias_from(batch, n);
  let start = c_start(batch) + m * params.c_row;
  for (var r = 0u; r < min(4u, params.M - m); r++) { put(start + r * params.c_row, n, params.scale * (*sum)[first + r] + add); }
}

@compute @workgroup_size(ACROSS, DOWN)
fn tiled(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
         @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = tile_of(group, groups, ROWS, COLUMNS);
  let along_a = params.a_column == 1u && params.a_row != 1u; // a row of a lies along K
  let along_b = params.b_row == 1u && params.b_column != 1u;
  var sum: array<vec4f, 4u * GROUPS * GROUPS>; // [group of rows][group of columns][row]
  for (var g = 0u; g < params.sums; g++) {
    if (!takes_part(g, tile.batch)) { continue; }
    let a0 = a_start(tile.batch, g);
    let b0 = b_start(tile.batch, g);
    for (var k0 = 0u; k0 < params.K; k0 += DEPTH) {
      workgroupBarrier();
      fill_a(a0, tile.row, k0, along_a, lane);
      fill_b(b0, tile.column, k0, along_b, lane);
      workgroupBarrier();
      for (var k = 0u; k < DEPTH; k++) {
        for (var i = 0u; i < GROUPS; i++) {
          let x = tile_a[k * SIDE_A + i * DOWN + local.y];
          for (var j = 0u; j < GROUPS; j++) {
            let y = tile_b[k * SIDE_B + j * ACROSS + local.x];
            for (var r = 0u; r < 4u; r++) { sum[(i * GROUPS + j) * 4u + r] += x[r] * y; }
          }
        }
      }
    }
  }
  for (var i = 0u; i < GROUPS * GROUPS; i++) {
    let m = tile.row + (i / GROUPS * DOWN + local.y) * 4u;
    let n = tile.column + (i % GROUPS * ACROSS + local.x) * 4u;
    finish(tile.batch, m, n, &sum, 4u * i);
  }
}
