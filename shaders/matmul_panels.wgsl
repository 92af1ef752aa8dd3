// c = f(scale op(a) op(b) + bias) of operands that lie in textures, packed by shaders/matmul_pack.wgsl: for large products
// on software adapters, which fetch the four floats of a texel at once but those of a buffer one by one. What is
// transposed, and whether sizes are multiples of four, is a matter of packing alone.
// Workgroup: one subgroup, 32 or 64 rows and 32 columns of c; each lane owns four columns. The rows of a are loaded
// across the lanes and handed round by shuffles.
// See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
// use: lib/gemm_finish
// use: lib/gemm_put_fours
// use: lib/gemm_shuffle
// use: lib/gemm_store
// use: lib/panel
const LANES: u32 = 8u;
// Rows of one array of sums: a longer one is kept in memory.
const ROWS: u32 = 16u;
// Whether a workgroup takes two panels of a: b is read half as often, and compiling takes three times as long.
const IS_TALL: bool = false;
@group(0) @binding(1) var left: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var right: texture_storage_2d<rgba32float, read>;

fn a_at(i: u32) -> vec4f { return textureLoad(left, texel(i)); }
fn b_at(i: u32) -> vec4f { return textureLoad(right, texel(i)); }

@compute @workgroup_size(LANES)
fn panels(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(group, groups, select(PANEL, 2u * PANEL, IS_TALL), PANEL);
  let length = (params.K + 3u) / 4u * PANEL; // of a panel, in texels
  let a0 = tile.row / PANEL * length + lane;
  let b0 = tile.column / PANEL * length + lane;
  var sum0: array<vec4f, ROWS>;
  var sum1: array<vec4f, ROWS>;
  var sum2: array<vec4f, ROWS>;
  var sum3: array<vec4f, ROWS>;
  for (var at = 0u; at < length; at += PANEL) {
    // All loads first: a call between the products would have the sums put aside.
    let b = Four(b_at(b0 + at), b_at(b0 + at + LANES), b_at(b0 + at + 2u * LANES), b_at(b0 + at + 3u * LANES));
    let x0 = a_at(a0 + at);
    let x1 = a_at(a0 + at + LANES);
    let x2 = a_at(a0 + at + 2u * LANES);
    let x3 = a_at(a0 + at + 3u * LANES);
    if (IS_TALL) {
      let x4 = a_at(a0 + length + at);
      let x5 = a_at(a0 + length + at + LANES);
      let x6 = a_at(a0 + length + at + 2u * LANES);
      let x7 = a_at(a0 + length + at + 3u * LANES);
      add_products(&sum2, x4, x5, b);
      add_products(&sum3, x6, x7, b);
    }
    add_products(&sum0, x0, x1, b);
    add_products(&sum1, x2, x3, b);
  }
  let n = tile.column + 4u * lane;
  finish(tile, n, &sum0);
  finish(Tile(tile.batch, tile.row + ROWS, tile.column), n, &sum1);
  if (IS_TALL) {
    finish(Tile(tile.batch, tile.row + PANEL, tile.column), n, &sum2);
    finish(Tile(tile.batch, tile.row + PANEL + ROWS, tile.column), n, &sum3);
  }
}
