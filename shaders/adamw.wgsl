// AdamW over one segment of an arena of parameters, with a step count for each slice (a parameter, or one expert of a bank).
//   p -= lr (decay p);  m += (1-β1)(g - m);  v += (1-β2)(g² - v);  p -= lr m̂ / (sqrt(v̂) + eps)        (PyTorch)
//   p -= lr sqrt(c2)/c1 m / (sqrt(v) + eps);  p -= lr decay p                                        (the older Hugging Face one)
// c1 = 1 - β1^t and c2 = 1 - β2^t come from a float64 table: pow is too coarse on one software driver.
// Thread: four elements of one slice, or one where slices are no multiple of four. Reads 4, writes 3.
// use: lib/grid
// use: lib/vec4
// share1 = 1 - β1 and share2 = 1 - β2 come rounded from float64: 1 - f32(0.999) would be 1.3e-5 off.
// blocks: blocks of 64 elements of this range of a segment, from its block first_block on.
struct Params { blocks: u32, first_block: u32, convention: u32, share1: f32, share2: f32, eps: f32 }
// first: first element; size: elements of a slice, or of the whole place where there is one; slice: its first slice; decay.
struct Entry { first: u32, size: u32, slice: u32, decay: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> value: array<T>;
@group(0) @binding(2) var<storage, read> gradient: array<T>;
@group(0) @binding(3) var<storage, read_write> first_moment: array<T>;
@group(0) @binding(4) var<storage, read_write> second_moment: array<T>;
// Steps that each slice has taken with this one, at most as many as the table has; 0: it is left out (shaders/slice_steps.wgsl).
@group(0) @binding(5) var<storage, read> takes_part: array<u32>;
@group(0) @binding(6) var<storage, read> entries: array<Entry>;
@group(0) @binding(7) var<storage, read> block_entry: array<u32>;
// [0] is (lr, 0), written before each step; [t] is (c1, c2) of step t; the last pair holds from there on.
@group(0) @binding(8) var<storage, read> schedule: array<vec2f>;

@compute @workgroup_size(64)
fn step(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  let block = i * WIDTH / 64u;
  if (block >= params.blocks) { return; }
  let entry = entries[block_entry[block]];
  let t = takes_part[entry.slice + (params.first_block * 64u + i * WIDTH - entry.first) / entry.size];
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
