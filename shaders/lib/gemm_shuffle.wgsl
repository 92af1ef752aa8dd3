// Products of rows that lie across the lanes of a subgroup, handed round by shuffles: each lane has some columns of b.

// Four k of b, of a lane's four columns.
struct Four { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f }

// Adds those of 16 rows of a: each lane has four k of two of them, and all lanes get all.
fn add_products(sum: ptr<function, array<vec4f, ROWS>>, x: vec4f, y: vec4f, b: Four) {
  for (var r = 0u; r < LANES; r++) {
    (*sum)[r] += subgroupShuffle(x.x, r) * b.r0 + subgroupShuffle(x.y, r) * b.r1
               + subgroupShuffle(x.z, r) * b.r2 + subgroupShuffle(x.w, r) * b.r3;
    (*sum)[LANES + r] += subgroupShuffle(y.x, r) * b.r0 + subgroupShuffle(y.y, r) * b.r1
                       + subgroupShuffle(y.z, r) * b.r2 + subgroupShuffle(y.w, r) * b.r3;
  }
}
