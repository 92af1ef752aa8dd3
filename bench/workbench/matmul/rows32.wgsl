// Lost: `nn` of shaders/matmul_subgroup.wgsl with 32 rows in two arrays instead of 16 in one. On lavapipe 1.12 to 1.15 times
// as fast (512³: 54 against 47 GFLOP/s, 64 x 64 x 320: 101 against 120 µs), but compiling takes 1.2 s against 0.45 s for
// each entry, which a short run does not win back. 8 rows are slower everywhere (160 x 64 x 64: 111 against 89 µs).
// Named variables instead of the arrays: 51 for 16 and for 32 rows, 38 for 64. Rows of `a` loaded by all lanes alike,
// without shuffles: 15.
//
// Takes the place of `nn` in that file; everything else is there.

@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, 2u * ROWS, 4u * LANES);
  let n = tile.column + 4u * lane;
  let a_row = params.a_row / UNIT;
  let b_row = params.b_row / UNIT;
  let a0 = a_start(tile.batch, 0u) / UNIT;
  let b0 = (b_start(tile.batch, 0u) + min(n, params.N - 1u)) / UNIT;
  var sum: array<vec4f, ROWS>;
  var low: array<vec4f, ROWS>;
  for (var k = 0u; k < params.K; k += 4u) {
    let at = b0 + k * b_row;
    let r0 = load_b4(at);
    let r1 = row(k + 1u, load_b4(at + b_row));
    let r2 = row(k + 2u, load_b4(at + 2u * b_row));
    let r3 = row(k + 3u, load_b4(at + 3u * b_row));
    for (var g = 0u; g < ROWS / LANES; g++) {
      let x = along(k, load_a4(a0 + min(tile.row + g * LANES + lane, params.M - 1u) * a_row + k / UNIT));
      let y = along(k, load_a4(a0 + min(tile.row + ROWS + g * LANES + lane, params.M - 1u) * a_row + k / UNIT));
      for (var r = 0u; r < LANES; r++) {
        sum[g * LANES + r] += subgroupShuffle(x.x, r) * r0 + subgroupShuffle(x.y, r) * r1
                            + subgroupShuffle(x.z, r) * r2 + subgroupShuffle(x.w, r) * r3;
        low[g * LANES + r] += subgroupShuffle(y.x, r) * r0 + subgroupShuffle(y.y, r) * r1
                            + subgroupShuffle(y.z, r) * r2 + subgroupShuffle(y.w, r) * r3;
      }
    }
  }
  finish(tile, n, &sum);
  finish(Tile(tile.batch, tile.row + ROWS, tile.column), n, &low);
}
