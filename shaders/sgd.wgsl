// SGD over one segment of an arena of parameters, with a step count for each slice (a parameter, or one expert of a bank):
//   g += decay p;  b = μ b + share g (the first step: b = g);  p -= lr (g + μ b, b, or g)
// for Nesterov's momentum, momentum, and none. blocks: blocks of 64 elements of this range of a segment, from its block
// first_block on. Thread: four elements of one slice, or one where slices are no multiple of four. Reads 3, writes 2.
// use: lib/grid
// use: lib/vec4
struct Params { blocks: u32, first_block: u32, momentum: f32, share: f32, nesterov: u32 }
// first: first element; size: elements of a slice, or of the whole place where there is one; slice: its first slice; decay.
struct Entry { first: u32, size: u32, slice: u32, decay: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> value: array<T>;
@group(0) @binding(2) var<storage, read> gradient: array<T>;
@group(0) @binding(3) var<storage, read_write> buffer: array<T>;
// Steps that each slice has taken with this one; 0: it is left out.
@group(0) @binding(4) var<storage, read> takes_part: array<u32>;
@group(0) @binding(5) var<storage, read> entries: array<Entry>;
@group(0) @binding(6) var<storage, read> block_entry: array<u32>;
@group(0) @binding(7) var<storage, read> rate: array<f32>;

@compute @workgroup_size(64)
fn step(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  let block = i * WIDTH / 64u;
  if (block >= params.blocks) { return; }
  let entry = entries[block_entry[block]];
  let t = takes_part[entry.slice + (params.first_block * 64u + i * WIDTH - entry.first) / entry.size];
  if (t == 0u) { return; }
  let p = value[i];
  let g = gradient[i] + entry.decay * p;
  if (params.momentum == 0.0) {
    value[i] = p - rate[0] * g;
    return;
  }
  let b = select(params.momentum * buffer[i] + params.share * g, g, t == 1u);
  buffer[i] = b;
  value[i] = p - rate[0] * select(b, g + params.momentum * b, params.nesterov == 1u);
}
