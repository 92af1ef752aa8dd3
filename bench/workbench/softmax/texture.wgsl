// Softmax that reads its operands from textures, which lost on lavapipe to shaders/softmax.wgsl: the copy to a texture
// takes about as long as reading a buffer once, and rows are read two times. compare.ts times both.
// x (of the backward y) and dy [rows, C] lie in textures of 2048 texels to a row. Workgroup: one row, by one subgroup.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var x: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var dy: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4f>;

fn texel(i: u32) -> vec2u { return vec2u(i % 2048u, i / 2048u); }

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = unfold(group, groups) * params.columns;
  var top = vec4f(-3.4e38);
  var sum = vec4f(0.0);
  for (var c = lane; c < params.columns; c += 4u * LANES) {
    let v0 = textureLoad(x, texel(base + c));
    let v1 = textureLoad(x, texel(base + c + LANES));
    let v2 = textureLoad(x, texel(base + c + 2u * LANES));
    let v3 = textureLoad(x, texel(base + c + 3u * LANES));
    let higher = max(max(max(v0, v1), max(v2, v3)), top);
    sum = sum * exp(top - higher) + exp(v0 - higher) + exp(v1 - higher) + exp(v2 - higher) + exp(v3 - higher);
    top = higher;
  }
  let maximum = row_max(fold_max(top), lane);
  let scale = 1.0 / row_sum(fold_sum(sum * exp(top - maximum)), lane);
  for (var c = lane; c < params.columns; c += LANES) { y[base + c] = exp(textureLoad(x, texel(base + c)) - maximum) * scale; }
}

// x is y here.
@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = unfold(group, groups) * params.columns;
  var sum = vec4f(0.0);
  for (var c = lane; c < params.columns; c += LANES) { sum += textureLoad(x, texel(base + c)) * textureLoad(dy, texel(base + c)); }
  let total = row_sum(fold_sum(sum), lane);
  for (var c = lane; c < params.columns; c += LANES) {
    dx[base + c] = textureLoad(x, texel(base + c)) * (textureLoad(dy, texel(base + c)) - total);
  }
}
