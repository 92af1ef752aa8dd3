// What a lane does with its sums, of four columns from n on of 16 rows: c = f(scale sum + bias).
fn finish(tile: Tile, n: u32, sum: ptr<function, array<vec4f, ROWS>>) {
  if (n >= params.N || tile.row >= params.M) { return; }
  let add = bias_from(tile.batch, n);
  let start = c_start(tile.batch) + tile.row * params.c_row;
  // The bound is no constant, so that what is done with a row is not compiled 16 times.
  for (var r = 0u; r < min(ROWS, params.M - tile.row); r++) { put(start + r * params.c_row, n, params.scale * (*sum)[r] + add); }
}
