// Parts of the operands of a tile: four neighbours along K, or along the other dimension, of row (or column) m and step k;
// 0 beyond the matrix. See lib/gemm and lib/gemm_load_fours.
fn part_a(start: u32, m: u32, k: u32, along_k: bool) -> vec4f {
  let v = load_a4((start + min(m, params.M - 1u) * params.a_row + min(k, params.K - 1u) * params.a_column) / UNIT);
  return select(vec4f(0.0), v, within(m, params.M, k, along_k));
}
fn part_b(start: u32, n: u32, k: u32, along_k: bool) -> vec4f {
  let v = load_b4((start + min(n, params.N - 1u) * params.b_column + min(k, params.K - 1u) * params.b_row) / UNIT);
  return select(vec4f(0.0), v, within(n, params.N, k, along_k));
}
fn within(m: u32, limit: u32, k: u32, along_k: bool) -> vec4<bool> {
  let step = vec4u(0u, 1u, 2u, 3u);
  if (along_k) { return (vec4u(k) + step < vec4u(params.K)) & vec4<bool>(m < limit); }
  return (vec4u(m) + step < vec4u(limit)) & vec4<bool>(k < params.K);
}
