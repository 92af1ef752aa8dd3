// Operands of products as panels: written by shaders/matmul_pack.wgsl, read from a texture by shaders/matmul_panels.wgsl.
// Panels of 32 rows of a: for each four of K 32 texels, of a row each. Panels of 32 columns of b: for each four of K
// 4 x 8 texels, of one k and four columns each.
const PANEL: u32 = 32u;
// Texels to a row of the texture.
const TEXELS_WIDE: u32 = 2048u;

fn texel(i: u32) -> vec2u { return vec2u(i % TEXELS_WIDE, i / TEXELS_WIDE); }
