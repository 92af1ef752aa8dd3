// y = x keep / (1 - p), keep drawn by Philox from logical counters. x [rows, C] -> y [rows, C], C elements an example.
// The backward pass draws the same again: nothing is saved. Thread: four elements. Reads 1, writes 1.
// use: lib/philox
// use: lib/grid
// x and y hold the n elements from `first` on: an array of several chunks is run through in ranges.
struct Params { first: u32, n: u32, columns: u32, threshold: u32, scale: f32, stream: u32, examples: u32, first_example: u32, first_pass: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> clock: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let per_row = (params.columns + 3u) / 4u;
  let first_group = (params.first / params.columns) * per_row + (params.first % params.columns) / 4u;
  let i = first_group + unfold(group, groups) * 64u + lane;
  let row = i / per_row;
  let start = (i % per_row) * 4u;
  let end = params.first + params.n;
  if (row * params.columns + start >= end) { return; }
  let d = Draw(params.stream, params.examples, params.first_example, params.first_pass);
  let words = draw(i % per_row, row, clock[0], clock[1], d);
  for (var j = 0u; j < min(4u, params.columns - start); j++) {
    let e = row * params.columns + start + j;
    if (e < params.first || e >= end) { continue; }
    y[e - params.first] = select(0.0, x[e - params.first] * params.scale, words[j] >= params.threshold);
  }
}
