// Sums. `rows`: x [rows, C] -> y [rows, parts], each part adding up `block` columns. `columns`: x [outer, R, inner] -> y [outer, S, inner],
// each of the S parts adding up `block` of the R rows; a second call adds the parts. Reads x once.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32, outer: u32, inner: u32, block: u32, parts: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<T>;

// Workgroup: one part of a row; `rows` counts them. `columns` and `block` count groups of WIDTH.
@compute @workgroup_size(LANES)
fn rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups);
  if (i >= params.rows) { return; }
  let start = i / params.parts * params.columns;
  let first = i % params.parts * params.block;
  let last = min(first + params.block, params.columns);
  var sum = T(0.0);
  for (var block = first + lane; block < last; block += 32u * LANES) {
    var part = T(0.0);
    let end = min(block + 32u * LANES, last);
    for (var c = block; c < end; c += LANES) { part += x[start + c]; }
    sum += part;
  }
  let total = row_sum(fold_sum(sum), lane);
  if (lane == 0u) { y[i] = total; }
}

// Thread: COLUMNS columns of one part, as many columns apart as there are threads to a part. `inner` counts groups of WIDTH.
const COLUMNS: u32 = 1u;

@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  let threads = (params.inner + COLUMNS - 1u) / COLUMNS;
  if (i >= params.outer * params.parts * threads) { return; }
  let first = i % threads;
  let part = (i / threads) % params.parts;
  let outer = i / (threads * params.parts);
  let end = min((part + 1u) * params.block, params.rows);
  var sum: array<T, COLUMNS>;
  for (var r = part * params.block; r < end; r++) {
    for (var k = 0u; k < COLUMNS; k++) {
      sum[k] += x[(outer * params.rows + r) * params.inner + min(first + k * threads, params.inner - 1u)];
    }
  }
  for (var k = 0u; k < COLUMNS; k++) {
    let column = first + k * threads;
    if (column < params.inner) { partial[(outer * params.parts + part) * params.inner + column] = sum[k]; }
  }
}
