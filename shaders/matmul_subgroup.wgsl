// c = f(scale op(a) op(b) + bias) without barriers: for software adapters with subgroups of eight lanes. Workgroup: one
// subgroup; each lane owns four columns of 16 or 32 rows, which are loaded across the lanes as vec4 and handed round by
// shuffles.
// Entries by what is transposed: nn = a b, nt = a bᵀ (a linear layer), tn = aᵀ b (its weight gradient).
// Loads are vec4 along the contiguous dimension where sizes are multiples of 4 (nn, nt: K and N; tn: M and N), else
// single floats by lib/gemm_load_ones. A tile reads 16 + 4 LANES floats for each k.
// See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
// use: lib/gemm_finish
// use: lib/gemm_load_fours
// use: lib/gemm_put_fours
// use: lib/gemm_shuffle
// use: lib/gemm_store
const LANES: u32 = 8u;
const ROWS: u32 = 16u;
// Whether nn and nt take 32 rows, so that a load of b serves twice as many. The other 16 are an array of their own, since
// one of 32 is kept in memory. Compiling takes three times as long.
const IS_TALL: bool = false;

fn height() -> u32 { return select(ROWS, 2u * ROWS, IS_TALL); }

// Rows of a from `first` on, in a matrix that starts at `start`; four k of each.
struct Rows { start: u32, first: u32, lane: u32, k: u32 }

// Those of the row that a lane has of the eight from `skip` on.
fn load_row(rows: Rows, skip: u32) -> vec4f {
  let row = min(rows.first + skip + rows.lane, params.M - 1u);
  return along(rows.k, load_a4(rows.start + row * (params.a_row / UNIT) + rows.k / UNIT));
}

// Adds the products of a tile's rows. All loads stand before what uses them.
fn add_rows(sum: ptr<function, array<vec4f, ROWS>>, low: ptr<function, array<vec4f, ROWS>>, rows: Rows, b: Four) {
  let x0 = load_row(rows, 0u);
  let x1 = load_row(rows, LANES);
  if (IS_TALL) {
    let x2 = load_row(rows, 2u * LANES);
    let x3 = load_row(rows, 3u * LANES);
    add_products(low, x2, x3, b);
  }
  add_products(sum, x0, x1, b);
}

fn finish_rows(tile: Tile, n: u32, sum: ptr<function, array<vec4f, ROWS>>, low: ptr<function, array<vec4f, ROWS>>) {
  finish(tile, n, sum);
  if (IS_TALL) { finish(Tile(tile.batch, tile.row + ROWS, tile.column), n, low); }
}

@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, height(), 4u * LANES);
  let n = tile.column + 4u * lane;
  let b_row = params.b_row / UNIT;
  let a0 = a_start(tile.batch, 0u) / UNIT;
  let b0 = (b_start(tile.batch, 0u) + min(n, params.N - 1u)) / UNIT;
  var sum: array<vec4f, ROWS>;
  var low: array<vec4f, ROWS>;
  for (var k = 0u; k < params.K; k += 4u) {
    let at = b0 + k * b_row;
    let b = Four(load_b4(at), row(k + 1u, load_b4(at + b_row)), row(k + 2u, load_b4(at + 2u * b_row)), row(k + 3u, load_b4(at + 3u * b_row)));
    add_rows(&sum, &low, Rows(a0, tile.row, lane, k), b);
  }
  finish_rows(tile, n, &sum, &low);
}

@compute @workgroup_size(LANES)
fn nt(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, height(), 4u * LANES);
  let n = tile.column + 4u * lane;
  let a0 = a_start(tile.batch, 0u) / UNIT;
  let columns = min(vec4u(n) + vec4u(0u, 1u, 2u, 3u), vec4u(params.N - 1u));
  let starts = (vec4u(b_start(tile.batch, 0u)) + columns * params.b_column) / UNIT;
  var sum: array<vec4f, ROWS>;
  var low: array<vec4f, ROWS>;
  for (var k = 0u; k < params.K; k += 4u) {
    let c0 = along(k, load_b4(starts.x + k / UNIT));
    let c1 = along(k, load_b4(starts.y + k / UNIT));
    let c2 = along(k, load_b4(starts.z + k / UNIT));
    let c3 = along(k, load_b4(starts.w + k / UNIT));
    let b = Four(vec4f(c0.x, c1.x, c2.x, c3.x), vec4f(c0.y, c1.y, c2.y, c3.y), vec4f(c0.z, c1.z, c2.z, c3.z), vec4f(c0.w, c1.w, c2.w, c3.w));
    add_rows(&sum, &low, Rows(a0, tile.row, lane, k), b);
  }
  finish_rows(tile, n, &sum, &low);
}

// Four lanes hold the 16 rows of one k, the next four those of the next.
const DEPTH: u32 = LANES / 4u;

@compute @workgroup_size(LANES)
fn tn(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, ROWS, 4u * LANES);
  let n = tile.column + 4u * lane;
  let a_column = params.a_column / UNIT;
  let b_row = params.b_row / UNIT;
  let mine = min(n, params.N - 1u);
  let my_rows = min(tile.row + lane % 4u * 4u, params.M - 1u);
  let last = params.K - 1u;
  var sum: array<vec4f, ROWS>;
  for (var g = 0u; g < params.sums; g++) {
    if (!takes_part(g, tile.batch)) { continue; }
    let a0 = (a_start(tile.batch, g) + my_rows) / UNIT;
    let b0 = (b_start(tile.batch, g) + mine) / UNIT;
    // Four k at a time: each turn of a loop costs a copy of all sums.
    for (var k = 0u; k < params.K; k += 4u) {
      var x: array<vec4f, 4u / DEPTH>;
      for (var d = 0u; d < 4u / DEPTH; d++) {
        let my_k = k + d * DEPTH + lane / 4u;
        x[d] = in_sum(my_k, load_a4(a0 + min(my_k, last) * a_column));
      }
      var y: array<vec4f, 4>;
      for (var d = 0u; d < 4u; d++) { y[d] = in_sum(k + d, load_b4(b0 + min(k + d, last) * b_row)); }
      for (var i = 0u; i < 4u; i++) {
        for (var d = 0u; d < 4u; d++) {
          let source = d % DEPTH * 4u + i;
          sum[4u * i] += subgroupShuffle(x[d / DEPTH].x, source) * y[d];
          sum[4u * i + 1u] += subgroupShuffle(x[d / DEPTH].y, source) * y[d];
          sum[4u * i + 2u] += subgroupShuffle(x[d / DEPTH].z, source) * y[d];
          sum[4u * i + 3u] += subgroupShuffle(x[d / DEPTH].w, source) * y[d];
        }
      }
    }
  }
  finish(tile, n, &sum);
}
