// c = scale op(a) op(b) + bias without barriers: for software adapters. Workgroup: one subgroup; each lane owns four
// columns of 16 rows; 16 rows of a are loaded across the lanes as vec4 and handed round by shuffles.
// Needs sizes along which vec4 are loaded to be multiples of 4: nn, nt: K and N; tn: M and N.
// Entries by what is transposed: nn = a b, nt = a bᵀ (a linear layer), tn = aᵀ b (its weight gradient).
// See shaders/lib/gemm.wgsl for the parameters.
// use: lib/gemm
const LANES: u32 = 8u;
const ROWS: u32 = 16u;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> c4: array<vec4f>;

fn finish(batch: u32, row0: u32, column: u32, sum: ptr<function, array<vec4f, ROWS>>) {
  if (column >= params.N / 4u) { return; }
  let n = column * 4u;
  let add = vec4f(bias_at(batch, n), bias_at(batch, n + 1u), bias_at(batch, n + 2u), bias_at(batch, n + 3u));
  let base = c_start(batch) / 4u + column;
  for (var r = 0u; r < ROWS; r++) {
    if (row0 + r < params.M) { c4[base + (row0 + r) * (params.c_row / 4u)] = params.scale * (*sum)[r] + add; }
  }
}

@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.y * ROWS;
  let column = group.x * LANES + lane;
  let mine = min(column, params.N / 4u - 1u);
  let k4 = params.K / 4u;
  let a_row = params.a_row / 4u;
  let b_row = params.b_row / 4u;
  let a0 = a_start(batch, 0u) / 4u;
  let b0 = b_start(batch, 0u) / 4u;
  var sum: array<vec4f, ROWS>;
  for (var k = 0u; k < k4; k++) {
    let at = b0 + 4u * k * b_row + mine;
    let r0 = b[at];
    let r1 = b[at + b_row];
    let r2 = b[at + 2u * b_row];
    let r3 = b[at + 3u * b_row];
    for (var g = 0u; g < ROWS / LANES; g++) {
      let x = a[a0 + min(row0 + g * LANES + lane, params.M - 1u) * a_row + k];
      for (var r = 0u; r < LANES; r++) {
        sum[g * LANES + r] += subgroupShuffle(x.x, r) * r0 + subgroupShuffle(x.y, r) * r1
                            + subgroupShuffle(x.z, r) * r2 + subgroupShuffle(x.w, r) * r3;
      }
    }
  }
  finish(batch, row0, column, &sum);
}

@compute @workgroup_size(LANES)
fn nt(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.y * ROWS;
  let column = group.x * LANES + lane;
  let k4 = params.K / 4u;
  let a_row = params.a_row / 4u;
  let b_column = params.b_column / 4u;
  let a0 = a_start(batch, 0u) / 4u;
  let b0 = b_start(batch, 0u) / 4u + min(column, params.N / 4u - 1u) * 4u * b_column;
  var sum: array<vec4f, ROWS>;
  for (var k = 0u; k < k4; k++) {
    let c0 = b[b0 + k];
    let c1 = b[b0 + b_column + k];
    let c2 = b[b0 + 2u * b_column + k];
    let c3 = b[b0 + 3u * b_column + k];
    let r0 = vec4f(c0.x, c1.x, c2.x, c3.x);
    let r1 = vec4f(c0.y, c1.y, c2.y, c3.y);
    let r2 = vec4f(c0.z, c1.z, c2.z, c3.z);
    let r3 = vec4f(c0.w, c1.w, c2.w, c3.w);
    for (var g = 0u; g < ROWS / LANES; g++) {
      let x = a[a0 + min(row0 + g * LANES + lane, params.M - 1u) * a_row + k];
      for (var r = 0u; r < LANES; r++) {
        sum[g * LANES + r] += subgroupShuffle(x.x, r) * r0 + subgroupShuffle(x.y, r) * r1
                            + subgroupShuffle(x.z, r) * r2 + subgroupShuffle(x.w, r) * r3;
      }
    }
  }
  finish(batch, row0, column, &sum);
}

// Four lanes hold the 16 rows of one k, the next four those of the next.
const DEPTH: u32 = LANES / 4u;

@compute @workgroup_size(LANES)
fn tn(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.y * ROWS;
  let column = group.x * LANES + lane;
  let a_column = params.a_column / 4u;
  let b_row = params.b_row / 4u;
  let mine = min(column, params.N / 4u - 1u);
  let my_rows = min(row0 / 4u + lane % 4u, params.M / 4u - 1u);
  var sum: array<vec4f, ROWS>;
  for (var g = 0u; g < group_count(); g++) {
    if (!takes_part(g, batch)) { continue; }
    let a0 = a_start(batch, g) / 4u;
    let b0 = b_start(batch, g) / 4u;
    for (var k = 0u; k < params.K; k += DEPTH) {
      let my_k = k + lane / 4u;
      let x = select(vec4f(0.0), a[a0 + min(my_k, params.K - 1u) * a_column + my_rows], my_k < params.K);
      for (var d = 0u; d < DEPTH; d++) {
        let y = b[b0 + min(k + d, params.K - 1u) * b_row + mine];
        for (var i = 0u; i < 4u; i++) {
          sum[4u * i] += subgroupShuffle(x.x, 4u * d + i) * y;
          sum[4u * i + 1u] += subgroupShuffle(x.y, 4u * d + i) * y;
          sum[4u * i + 2u] += subgroupShuffle(x.z, 4u * d + i) * y;
          sum[4u * i + 3u] += subgroupShuffle(x.w, 4u * d + i) * y;
        }
      }
    }
  }
  finish(batch, row0, column, &sum);
}
