// c = f(scale a op(b) + bias): operands rounded to f16, sums in f32, by matrices that subgroups multiply. For GPUs that have
// them and for b in f16: frozen weights. Any sizes.
// Workgroup: a tile of TILE x TILE, in steps of DEPTH along K; four subgroups, PART x PART results each, as matrices of
// ROWS x COLUMNS. Rows of the tiles are padded, so that the rows of a matrix lie in different banks. Reads 2 M N K / TILE.
// See shaders/lib/gemm.wgsl for the parameters and shaders/lib/matrix.wgsl for the matrices.
// use: lib/gemm
// use: lib/gemm_parts
// use: lib/gemm_load_fours
// use: lib/gemm_put_fours
// use: lib/gemm_store
// use: lib/matrix
const SUBGROUP: u32 = 32u;
const ROWS: u32 = 16u; // of a sum, and of the left matrix
const COLUMNS: u32 = 16u; // of a sum, and of the right matrix
const STEP: u32 = 16u; // columns of the left matrix, rows of the right one
const TILE: u32 = 128u;
const DEPTH: u32 = 16u;
const PART: u32 = TILE / 2u;
const DOWN: u32 = PART / ROWS;
const ACROSS: u32 = PART / COLUMNS;
const THREADS: u32 = 4u * SUBGROUP;
// Whether a column of b lies along K: b is stored [N, K].
const IS_ALONG_K: bool = true;
const ROW_A: u32 = DEPTH + 8u;
const ROW_B: u32 = select(TILE, DEPTH, IS_ALONG_K) + 8u;

var<workgroup> tile_a: array<half, TILE * ROW_A>; // [row][k]
var<workgroup> tile_b: array<half, select(DEPTH, TILE, IS_ALONG_K) * ROW_B>; // [column][k], or [k][column]
var<workgroup> results: array<f32, 4u * ROWS * COLUMNS>; // a matrix of each subgroup, on its way out

// Where column n, step k of the tile of b lies.
fn place_b(n: u32, k: u32) -> u32 { return select(k * ROW_B + n, n * ROW_B + k, IS_ALONG_K); }

fn stage_a(start: u32, row: u32, k0: u32, lane: u32) {
  for (var t = lane; t < TILE * DEPTH / 4u; t += THREADS) {
    let m = t / (DEPTH / 4u);
    let k = t % (DEPTH / 4u) * 4u;
    let v = part_a(start, row + m, k0 + k, true);
    for (var i = 0u; i < 4u; i++) { tile_a[m * ROW_A + k + i] = half(v[i]); }
  }
}

fn stage_b(start: u32, column: u32, k0: u32, lane: u32) {
  for (var t = lane; t < TILE * DEPTH / 4u; t += THREADS) {
    let across = select(TILE, DEPTH, IS_ALONG_K) / 4u;
    let n = select(t % across * 4u, t / across, IS_ALONG_K);
    let k = select(t / across, t % across * 4u, IS_ALONG_K);
    let v = part_b(start, column + n, k0 + k, IS_ALONG_K);
    let at = place_b(n, k);
    for (var i = 0u; i < 4u; i++) { tile_b[at + i] = half(v[i]); }
  }
}

@compute @workgroup_size(THREADS)
fn matrix(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = tile_of(group, groups, TILE, TILE);
  let a0 = a_start(tile.batch, 0u);
  let b0 = b_start(tile.batch, 0u);
  let subgroup = lane / SUBGROUP;
  let row = subgroup / 2u * PART;
  let column = subgroup % 2u * PART;
  enter(lane % SUBGROUP);
  var sum: array<Sum, DOWN * ACROSS>;
  for (var k0 = 0u; k0 < params.K; k0 += DEPTH) {
    workgroupBarrier();
    stage_a(a0, tile.row, k0, lane);
    stage_b(b0, tile.column, k0, lane);
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k += STEP) {
      var right: array<Right, ACROSS>;
      for (var j = 0u; j < ACROSS; j++) { right[j] = load_right(place_b(column + j * COLUMNS, k)); }
      for (var i = 0u; i < DOWN; i++) {
        let left = load_left((row + i * ROWS) * ROW_A + k);
        for (var j = 0u; j < ACROSS; j++) { sum[i * ACROSS + j] = multiplied(left, right[j], sum[i * ACROSS + j]); }
      }
    }
  }
  for (var i = 0u; i < DOWN; i++) {
    for (var j = 0u; j < ACROSS; j++) {
      workgroupBarrier();
      keep(subgroup * ROWS * COLUMNS, sum[i * ACROSS + j]);
      workgroupBarrier();
      finish(tile.batch, tile.row + row + i * ROWS, tile.column + column + j * COLUMNS, subgroup * ROWS * COLUMNS, lane % SUBGROUP);
    }
  }
}

// Stores a matrix of results from row m, column n on, as far as c reaches.
fn finish(batch: u32, m: u32, n: u32, place: u32, lane: u32) {
  for (var t = lane; t < ROWS * COLUMNS / 4u; t += SUBGROUP) {
    let down = t / (COLUMNS / 4u);
    let across = t % (COLUMNS / 4u) * 4u;
    if (m + down >= params.M || n + across >= params.N) { continue; }
    let at = place + down * COLUMNS + across;
    let z = vec4f(results[at], results[at + 1u], results[at + 2u], results[at + 3u]);
    put(c_start(batch) + (m + down) * params.c_row, n + across, params.scale * z + bias_from(batch, n + across));
  }
}
