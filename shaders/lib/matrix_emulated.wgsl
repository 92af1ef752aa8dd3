// lib/matrix without the matrices of subgroups, for tests on adapters that lack them: SUBGROUP threads hold a sum
// together, and read both operands from workgroup memory as often as they like.
alias half = f32;
alias Left = u32; // where it lies
alias Right = u32;
alias Sum = array<f32, ROWS * COLUMNS / SUBGROUP>;

var<private> own: u32;
fn enter(lane: u32) { own = lane; }
fn load_left(at: u32) -> Left { return at; }
fn load_right(at: u32) -> Right { return at; }
fn multiplied(left: Left, right: Right, sum: Sum) -> Sum {
  var result = sum;
  for (var i = 0u; i < ROWS * COLUMNS / SUBGROUP; i++) {
    let at = own + i * SUBGROUP;
    for (var k = 0u; k < STEP; k++) {
      result[i] += f32(tile_a[left + at / COLUMNS * ROW_A + k]) * f32(tile_b[right + place_b(at % COLUMNS, k)]);
    }
  }
  return result;
}
fn keep(at: u32, sum: Sum) {
  for (var i = 0u; i < ROWS * COLUMNS / SUBGROUP; i++) { results[at + own + i * SUBGROUP] = sum[i]; }
}
