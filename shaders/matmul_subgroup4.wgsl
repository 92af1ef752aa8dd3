// The kernels of shaders/matmul_subgroup.wgsl for subgroups of four lanes, with the rows as named variables: the
// software driver with such subgroups keeps those in registers, but arrays in memory (twice as fast, measured).
// Workgroup: 8 rows (tn: 16) of 16 columns. Loads as there: vec4 where sizes are multiples of 4, else single floats.
// use: lib/gemm
// use: lib/gemm_load_fours
// use: lib/gemm_put_fours
// use: lib/gemm_store

// One row of four columns: x · [r0; r1; r2; r3].
fn times(x: vec4f, r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f) -> vec4f { return x.x * r0 + x.y * r1 + x.z * r2 + x.w * r3; }

// Stores the first `count` of the rows. A loop over an array: the text of each store would be compiled where it stands.
fn finish(tile: Tile, n: u32, count: u32, sum: ptr<function, array<vec4f, 16>>) {
  if (n >= params.N || tile.row >= params.M) { return; }
  let add = bias_from(tile.batch, n);
  let start = c_start(tile.batch) + tile.row * params.c_row;
  for (var r = 0u; r < min(count, params.M - tile.row); r++) { put(start + r * params.c_row, n, params.scale * (*sum)[r] + add); }
}

@compute @workgroup_size(4)
fn nn(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, 8u, 16u);
  let n = tile.column + 4u * lane;
  let a_row = params.a_row / UNIT;
  let a_first = a_start(tile.batch, 0u) / UNIT;
  let a0 = a_first + min(tile.row + lane, params.M - 1u) * a_row;
  let a1 = a_first + min(tile.row + 4u + lane, params.M - 1u) * a_row;
  let b_row = params.b_row / UNIT;
  let b0 = (b_start(tile.batch, 0u) + min(n, params.N - 1u)) / UNIT;
  var s0 = vec4f(0.0);
  var s1 = vec4f(0.0);
  var s2 = vec4f(0.0);
  var s3 = vec4f(0.0);
  var s4 = vec4f(0.0);
  var s5 = vec4f(0.0);
  var s6 = vec4f(0.0);
  var s7 = vec4f(0.0);
  for (var k = 0u; k < params.K; k += 4u) {
    let at = b0 + k * b_row;
    let r0 = load_b4(at);
    let r1 = row(k + 1u, load_b4(at + b_row));
    let r2 = row(k + 2u, load_b4(at + 2u * b_row));
    let r3 = row(k + 3u, load_b4(at + 3u * b_row));
    let x0 = along(k, load_a4(a0 + k / UNIT));
    s0 += times(subgroupBroadcast(x0, 0u), r0, r1, r2, r3);
    s1 += times(subgroupBroadcast(x0, 1u), r0, r1, r2, r3);
    s2 += times(subgroupBroadcast(x0, 2u), r0, r1, r2, r3);
    s3 += times(subgroupBroadcast(x0, 3u), r0, r1, r2, r3);
    let x1 = along(k, load_a4(a1 + k / UNIT));
    s4 += times(subgroupBroadcast(x1, 0u), r0, r1, r2, r3);
    s5 += times(subgroupBroadcast(x1, 1u), r0, r1, r2, r3);
    s6 += times(subgroupBroadcast(x1, 2u), r0, r1, r2, r3);
    s7 += times(subgroupBroadcast(x1, 3u), r0, r1, r2, r3);
  }
  var sum = array<vec4f, 16>(s0, s1, s2, s3, s4, s5, s6, s7, s7, s7, s7, s7, s7, s7, s7, s7);
  finish(tile, n, 8u, &sum);
}

@compute @workgroup_size(4)
fn nt(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, 8u, 16u);
  let n = tile.column + 4u * lane;
  let a_row = params.a_row / UNIT;
  let a_first = a_start(tile.batch, 0u) / UNIT;
  let a0 = a_first + min(tile.row + lane, params.M - 1u) * a_row;
  let a1 = a_first + min(tile.row + 4u + lane, params.M - 1u) * a_row;
  let columns = min(vec4u(n) + vec4u(0u, 1u, 2u, 3u), vec4u(params.N - 1u));
  let starts = (vec4u(b_start(tile.batch, 0u)) + columns * params.b_column) / UNIT;
  var s0 = vec4f(0.0);
  var s1 = vec4f(0.0);
  var s2 = vec4f(0.0);
  var s3 = vec4f(0.0);
  var s4 = vec4f(0.0);
  var s5 = vec4f(0.0);
  var s6 = vec4f(0.0);
  var s7 = vec4f(0.0);
  for (var k = 0u; k < params.K; k += 4u) {
    let c0 = along(k, load_b4(starts.x + k / UNIT));
    let c1 = along(k, load_b4(starts.y + k / UNIT));
    let c2 = along(k, load_b4(starts.z + k / UNIT));
    let c3 = along(k, load_b4(starts.w + k / UNIT));
    let r0 = vec4f(c0.x, c1.x, c2.x, c3.x);
    let r1 = vec4f(c0.y, c1.y, c2.y, c3.y);
    let r2 = vec4f(c0.z, c1.z, c2.z, c3.z);
    let r3 = vec4f(c0.w, c1.w, c2.w, c3.w);
    let x0 = along(k, load_a4(a0 + k / UNIT));
    s0 += times(subgroupBroadcast(x0, 0u), r0, r1, r2, r3);
    s1 += times(subgroupBroadcast(x0, 1u), r0, r1, r2, r3);
    s2 += times(subgroupBroadcast(x0, 2u), r0, r1, r2, r3);
    s3 += times(subgroupBroadcast(x0, 3u), r0, r1, r2, r3);
    let x1 = along(k, load_a4(a1 + k / UNIT));
    s4 += times(subgroupBroadcast(x1, 0u), r0, r1, r2, r3);
    s5 += times(subgroupBroadcast(x1, 1u), r0, r1, r2, r3);
    s6 += times(subgroupBroadcast(x1, 2u), r0, r1, r2, r3);
    s7 += times(subgroupBroadcast(x1, 3u), r0, r1, r2, r3);
  }
  var sum = array<vec4f, 16>(s0, s1, s2, s3, s4, s5, s6, s7, s7, s7, s7, s7, s7, s7, s7, s7);
  finish(tile, n, 8u, &sum);
}

// The four lanes hold 16 rows of one k.
@compute @workgroup_size(4)
fn tn(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, 16u, 16u);
  let n = tile.column + 4u * lane;
  let a_column = params.a_column / UNIT;
  let b_row = params.b_row / UNIT;
  let mine = min(n, params.N - 1u);
  let my_rows = min(tile.row + 4u * lane, params.M - 1u);
  var s0 = vec4f(0.0);
  var s1 = vec4f(0.0);
  var s2 = vec4f(0.0);
  var s3 = vec4f(0.0);
  var s4 = vec4f(0.0);
  var s5 = vec4f(0.0);
  var s6 = vec4f(0.0);
  var s7 = vec4f(0.0);
  var s8 = vec4f(0.0);
  var s9 = vec4f(0.0);
  var s10 = vec4f(0.0);
  var s11 = vec4f(0.0);
  var s12 = vec4f(0.0);
  var s13 = vec4f(0.0);
  var s14 = vec4f(0.0);
  var s15 = vec4f(0.0);
  for (var g = 0u; g < params.sums; g++) {
    if (!takes_part(g, tile.batch)) { continue; }
    var a_at = (a_start(tile.batch, g) + my_rows) / UNIT;
    var b_at = (b_start(tile.batch, g) + mine) / UNIT;
    for (var k = 0u; k < params.K; k++) {
      let x = load_a4(a_at);
      let y = load_b4(b_at);
      a_at += a_column;
      b_at += b_row;
      let x0 = subgroupBroadcast(x, 0u);
      s0 += x0.x * y;
      s1 += x0.y * y;
      s2 += x0.z * y;
      s3 += x0.w * y;
      let x1 = subgroupBroadcast(x, 1u);
      s4 += x1.x * y;
      s5 += x1.y * y;
      s6 += x1.z * y;
      s7 += x1.w * y;
      let x2 = subgroupBroadcast(x, 2u);
      s8 += x2.x * y;
      s9 += x2.y * y;
      s10 += x2.z * y;
      s11 += x2.w * y;
      let x3 = subgroupBroadcast(x, 3u);
      s12 += x3.x * y;
      s13 += x3.y * y;
      s14 += x3.z * y;
      s15 += x3.w * y;
    }
  }
  var sum = array<vec4f, 16>(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15);
  finish(tile, n, 16u, &sum);
}
