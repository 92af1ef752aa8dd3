// target[o, key, c] += Σ values[o, i, c] over the positions i of each key, in their order. `sorted` holds pairs
// (key, position), grouped by shaders/group.wgsl; keys of `bound` or more are left out.
// `partial` adds up what each block of 64 pairs continues from the block before; `finish` ends each group. So a key
// that most positions share takes no longer than the others, and rounding errors stay small.
// `finish` takes the keys of `rows` rows of the target from `first` on: one beyond a binding is run through in ranges.
// values [outer, n, C], target [outer, V, C]. Thread: one group of columns. Reads values once, target once, writes 1.
// use: lib/vec4
// use: lib/grid
struct Params { n: u32, bound: u32, columns: u32, outer: u32, blocks: u32, first: u32, rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sorted: array<vec2u>;
@group(0) @binding(2) var<storage, read> values: array<T>;
@group(0) @binding(3) var<storage, read_write> parts: array<T>;
@group(0) @binding(4) var<storage, read> parts_saved: array<T>;
@group(0) @binding(5) var<storage, read_write> target_rows: array<T>;

const BLOCK: u32 = 64u;

fn block_sum(first: u32, outer: u32, c: u32) -> T {
  let key = sorted[first].x;
  let end = min((first / BLOCK + 1u) * BLOCK, params.n);
  var sum = T(0.0);
  for (var r = first; r < end; r++) {
    let pair = sorted[r];
    if (pair.x != key) { break; }
    sum += values[(outer * params.n + pair.y) * params.columns + c];
  }
  return sum;
}

fn continues(block: u32) -> bool { return sorted[block * BLOCK].x == sorted[block * BLOCK - 1u].x; }

@compute @workgroup_size(64)
fn partial(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.blocks * params.columns) { return; }
  let block = (i / params.columns) % params.blocks;
  if (block == 0u || !continues(block)) { return; }
  parts[i] = block_sum(block * BLOCK, i / (params.columns * params.blocks), i % params.columns);
}

@compute @workgroup_size(64)
fn finish(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.outer * params.n * params.columns) { return; }
  let r = (i / params.columns) % params.n;
  let key = sorted[r].x;
  let row = key - params.first;
  if (key >= params.bound || row >= params.rows) { return; }
  if (r > 0u) { if (sorted[r - 1u].x == key) { return; } }
  let outer = i / (params.columns * params.n);
  let c = i % params.columns;
  var sum = block_sum(r, outer, c);
  for (var block = r / BLOCK + 1u; block < params.blocks; block++) {
    if (sorted[block * BLOCK].x != key) { break; }
    sum += parts_saved[(outer * params.blocks + block) * params.columns + c];
  }
  // With several of `outer` the range is all rows.
  let at = (outer * params.rows + row) * params.columns + c;
  target_rows[at] += sum;
}
