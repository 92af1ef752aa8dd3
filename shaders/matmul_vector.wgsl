// c = f(scale a bᵀ + bias) where a is one row: a token through a linear layer. Workgroup: four columns; lanes share the
// sum over k, so that neighbours read neighbouring weights. Reads N K + N K / 4, writes N.
// Loads are vec4 where K and N are multiples of 4, else single floats. See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
// use: lib/gemm_load_fours
// use: lib/gemm_put_fours
// use: lib/gemm_store
// use: lib/row_workgroup
// use: lib/lanes_workgroup

@compute @workgroup_size(LANES)
fn nt(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = tile_of(group, groups, 1u, 4u);
  let n = tile.column;
  let a0 = a_start(tile.batch, 0u) / UNIT;
  let columns = min(vec4u(n) + vec4u(0u, 1u, 2u, 3u), vec4u(params.N - 1u));
  let starts = (vec4u(b_start(tile.batch, 0u)) + columns * params.b_column) / UNIT;
  var sum = vec4f(0.0);
  for (var k = 4u * lane; k < params.K; k += 4u * LANES) {
    let x = along(k, load_a4(a0 + k / UNIT));
    sum += vec4f(dot(x, along(k, load_b4(starts.x + k / UNIT))), dot(x, along(k, load_b4(starts.y + k / UNIT))),
                 dot(x, along(k, load_b4(starts.z + k / UNIT))), dot(x, along(k, load_b4(starts.w + k / UNIT))));
  }
  let z = params.scale * lanes_sum(sum, lane) + bias_from(tile.batch, n);
  if (lane == 0u && tile.row < params.M) { put(c_start(tile.batch), n, z); }
}
