// AdamW over one segment of an arena of parameters, with a step count for each slice (a parameter, or one expert of a bank).
// `advance` decides for each slice whether it takes part and counts its step; `step` updates every element:
//   p -= lr (decay p);  m += (1-β1)(g - m);  v += (1-β2)(g² - v);  p -= lr m̂ / (sqrt(v̂) + eps)        (PyTorch)
//   p -= lr sqrt(c2)/c1 m / (sqrt(v) + eps);  p -= lr decay p                                        (the older Hugging Face one)
// c1 = 1 - β1^t and c2 = 1 - β2^t come from a float64 table: pow is too coarse on one software driver.
// Thread: one element. Reads 4, writes 3.
// use: lib/grid
// share1 = 1 - β1 and share2 = 1 - β2 come rounded from float64: 1 - f32(0.999) would be 1.3e-5 off.
// blocks: blocks of 64 elements of this range of a segment, from its block first_block on.
struct Params { blocks: u32, first_block: u32, slices: u32, table: u32, undrawn: u32, convention: u32, share1: f32, share2: f32, eps: f32 }
// first: first element; size: elements of a slice; slice: its first slice; decay.
struct Entry { first: u32, size: u32, slice: u32, decay: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> drawn: array<u32>;
@group(0) @binding(2) var<storage, read_write> steps: array<u32>;
@group(0) @binding(3) var<storage, read_write> takes_part: array<u32>;
@group(0) @binding(4) var<storage, read_write> value: array<f32>;
@group(0) @binding(5) var<storage, read> gradient: array<f32>;
@group(0) @binding(6) var<storage, read_write> first_moment: array<f32>;
@group(0) @binding(7) var<storage, read_write> second_moment: array<f32>;
@group(0) @binding(8) var<storage, read> takes_part_saved: array<u32>;
@group(0) @binding(9) var<storage, read> entries: array<Entry>;
@group(0) @binding(10) var<storage, read> block_entry: array<u32>;
// [0] is (lr, 0), written before each step; [t] is (c1, c2) of step t; the last pair holds from there on.
@group(0) @binding(11) var<storage, read> schedule: array<vec2f>;
// Not 0: the whole step is left out, since a gradient was not finite (shaders/loss_scale.wgsl).
@group(0) @binding(12) var<storage, read> skip: array<u32>;

// undrawn 0 "authors": out until first drawn, then always in. 1 "zeroGrad": always in. 2 "skip": in when drawn.
// Paper's code; see the option `undrawn` of src/optim/adamw.ts.
@compute @workgroup_size(64)
fn advance(@builtin(global_invocation_id) id: vec3u) {
  let s = id.x;
  if (s >= params.slices) { return; }
  if (skip[0] != 0u) {
    takes_part[s] = 0u;
    return;
  }
  let used = drawn[s] != 0u;
  let counts = used || params.undrawn == 1u || (params.undrawn == 0u && steps[s] > 0u);
  if (counts) { steps[s] += 1u; }
  takes_part[s] = select(0u, min(steps[s], params.table), counts);
}

@compute @workgroup_size(64)
fn step(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = unfold(group, groups);
  if (block >= params.blocks) { return; }
  let i = block * 64u + lane;
  let entry = entries[block_entry[block]];
  let t = takes_part_saved[entry.slice + (params.first_block * 64u + i - entry.first) / entry.size];
  if (t == 0u) { return; }
  let c = schedule[t];
  let rate = schedule[0].x;
  let g = gradient[i];
  let m = first_moment[i] + params.share1 * (g - first_moment[i]);
  let v = second_moment[i] + params.share2 * (g * g - second_moment[i]);
  first_moment[i] = m;
  second_moment[i] = v;
  let p = value[i];
  if (params.convention == 0u) {
    value[i] = p * (1.0 - rate * entry.decay) - rate / c.x * m / (sqrt(v) / sqrt(c.y) + params.eps);
  } else {
    let moved = p - rate * sqrt(c.y) / c.x * m / (sqrt(v) + params.eps);
    value[i] = moved - rate * entry.decay * moved;
  }
}
