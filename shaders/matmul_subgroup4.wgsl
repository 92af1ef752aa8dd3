// The kernels of shaders/matmul_subgroup.wgsl for subgroups of four lanes, with the rows as named variables: the
// software driver with such subgroups keeps those in registers, but arrays in memory (twice as fast, measured).
// Needs sizes along which vec4 are loaded to be multiples of 4: nn, nt: K and N; tn: M and N.
// use: lib/gemm
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> c4: array<vec4f>;

// One row of four columns: x · [r0; r1; r2; r3].
fn times(x: vec4f, r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f) -> vec4f { return x.x * r0 + x.y * r1 + x.z * r2 + x.w * r3; }

struct Epilogue { base: u32, row: u32, add: vec4f }

fn epilogue(batch: u32, row0: u32, column: u32) -> Epilogue {
  let n = column * 4u;
  let add = vec4f(bias_at(batch, n), bias_at(batch, n + 1u), bias_at(batch, n + 2u), bias_at(batch, n + 3u));
  return Epilogue(c_start(batch) / 4u + column, row0, add);
}

fn store(e: Epilogue, r: u32, sum: vec4f) {
  if (e.row + r < params.M) { c4[e.base + (e.row + r) * (params.c_row / 4u)] = params.scale * sum + e.add; }
}

@compute @workgroup_size(4)
fn nn(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.y * 8u;
  let column = group.x * 4u + lane;
  let k4 = params.K / 4u;
  let a_row = params.a_row / 4u;
  let a_first = a_start(batch, 0u) / 4u;
  let a0 = a_first + min(row0 + lane, params.M - 1u) * a_row;
  let a1 = a_first + min(row0 + 4u + lane, params.M - 1u) * a_row;
  let b_row = params.b_row / 4u;
  var at = b_start(batch, 0u) / 4u + min(column, params.N / 4u - 1u);
  var s0 = vec4f(0.0);
  var s1 = vec4f(0.0);
  var s2 = vec4f(0.0);
  var s3 = vec4f(0.0);
  var s4 = vec4f(0.0);
  var s5 = vec4f(0.0);
  var s6 = vec4f(0.0);
  var s7 = vec4f(0.0);
  for (var k = 0u; k < k4; k++) {
    let r0 = b[at];
    let r1 = b[at + b_row];
    let r2 = b[at + 2u * b_row];
    let r3 = b[at + 3u * b_row];
    at += 4u * b_row;
    let x0 = a[a0 + k];
    s0 += times(subgroupBroadcast(x0, 0u), r0, r1, r2, r3);
    s1 += times(subgroupBroadcast(x0, 1u), r0, r1, r2, r3);
    s2 += times(subgroupBroadcast(x0, 2u), r0, r1, r2, r3);
    s3 += times(subgroupBroadcast(x0, 3u), r0, r1, r2, r3);
    let x1 = a[a1 + k];
    s4 += times(subgroupBroadcast(x1, 0u), r0, r1, r2, r3);
    s5 += times(subgroupBroadcast(x1, 1u), r0, r1, r2, r3);
    s6 += times(subgroupBroadcast(x1, 2u), r0, r1, r2, r3);
    s7 += times(subgroupBroadcast(x1, 3u), r0, r1, r2, r3);
  }
  if (column >= params.N / 4u) { return; }
  let e = epilogue(batch, row0, column);
  store(e, 0u, s0);
  store(e, 1u, s1);
  store(e, 2u, s2);
  store(e, 3u, s3);
  store(e, 4u, s4);
  store(e, 5u, s5);
  store(e, 6u, s6);
  store(e, 7u, s7);
}

@compute @workgroup_size(4)
fn nt(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.y * 8u;
  let column = group.x * 4u + lane;
  let k4 = params.K / 4u;
  let a_row = params.a_row / 4u;
  let a_first = a_start(batch, 0u) / 4u;
  let a0 = a_first + min(row0 + lane, params.M - 1u) * a_row;
  let a1 = a_first + min(row0 + 4u + lane, params.M - 1u) * a_row;
  let b_column = params.b_column / 4u;
  let b0 = b_start(batch, 0u) / 4u + min(column, params.N / 4u - 1u) * 4u * b_column;
  let b1 = b0 + b_column;
  let b2 = b1 + b_column;
  let b3 = b2 + b_column;
  var s0 = vec4f(0.0);
  var s1 = vec4f(0.0);
  var s2 = vec4f(0.0);
  var s3 = vec4f(0.0);
  var s4 = vec4f(0.0);
  var s5 = vec4f(0.0);
  var s6 = vec4f(0.0);
  var s7 = vec4f(0.0);
  for (var k = 0u; k < k4; k++) {
    let c0 = b[b0 + k];
    let c1 = b[b1 + k];
    let c2 = b[b2 + k];
    let c3 = b[b3 + k];
    let r0 = vec4f(c0.x, c1.x, c2.x, c3.x);
    let r1 = vec4f(c0.y, c1.y, c2.y, c3.y);
    let r2 = vec4f(c0.z, c1.z, c2.z, c3.z);
    let r3 = vec4f(c0.w, c1.w, c2.w, c3.w);
    let x0 = a[a0 + k];
    s0 += times(subgroupBroadcast(x0, 0u), r0, r1, r2, r3);
    s1 += times(subgroupBroadcast(x0, 1u), r0, r1, r2, r3);
    s2 += times(subgroupBroadcast(x0, 2u), r0, r1, r2, r3);
    s3 += times(subgroupBroadcast(x0, 3u), r0, r1, r2, r3);
    let x1 = a[a1 + k];
    s4 += times(subgroupBroadcast(x1, 0u), r0, r1, r2, r3);
    s5 += times(subgroupBroadcast(x1, 1u), r0, r1, r2, r3);
    s6 += times(subgroupBroadcast(x1, 2u), r0, r1, r2, r3);
    s7 += times(subgroupBroadcast(x1, 3u), r0, r1, r2, r3);
  }
  if (column >= params.N / 4u) { return; }
  let e = epilogue(batch, row0, column);
  store(e, 0u, s0);
  store(e, 1u, s1);
  store(e, 2u, s2);
  store(e, 3u, s3);
  store(e, 4u, s4);
  store(e, 5u, s5);
  store(e, 6u, s6);
  store(e, 7u, s7);
}

// The four lanes hold 16 rows of one k.
@compute @workgroup_size(4)
fn tn(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let batch = group.z;
  let row0 = group.y * 16u;
  let column = group.x * 4u + lane;
  let a_column = params.a_column / 4u;
  let b_row = params.b_row / 4u;
  let mine = min(column, params.N / 4u - 1u);
  let my_rows = min(row0 / 4u + lane, params.M / 4u - 1u);
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
  for (var g = 0u; g < group_count(); g++) {
    if (!takes_part(g, batch)) { continue; }
    var a_at = a_start(batch, g) / 4u + my_rows;
    var b_at = b_start(batch, g) / 4u + mine;
    for (var k = 0u; k < params.K; k++) {
      let x = a[a_at];
      let y = b[b_at];
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
  if (column >= params.N / 4u) { return; }
  let e = epilogue(batch, row0, column);
  store(e, 0u, s0);
  store(e, 1u, s1);
  store(e, 2u, s2);
  store(e, 3u, s3);
  store(e, 4u, s4);
  store(e, 5u, s5);
  store(e, 6u, s6);
  store(e, 7u, s7);
  store(e, 8u, s8);
  store(e, 9u, s9);
  store(e, 10u, s10);
  store(e, 11u, s11);
  store(e, 12u, s12);
  store(e, 13u, s13);
  store(e, 14u, s14);
  store(e, 15u, s15);
}
