// destination = source[strided], elements of 16 bits, two to a word, bit for bit: n elements from `first` on. The
// destination has no gaps and starts at a whole word. What lies in another chunk of the source, or follows an odd number
// of elements, keeps its value. Thread: two elements. Reads 2, writes 1.
// use: lib/grid
struct Params {
  n: u32, rank: u32, source_offset: u32, target_offset: u32,
  // The first element, and the elements that the bound chunk of the source holds.
  first: u32, source_first: u32, source_length: u32,
  shape: array<vec4u, 2>, source_strides: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> destination: array<u32>;

@compute @workgroup_size(64)
fn strided(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = 2u * (unfold(group, groups) * 64u + lane);
  if (i >= params.n) { return; }
  let word = (params.target_offset + i) / 2u;
  let old = destination[word];
  var upper = old >> 16u;
  if (i + 1u < params.n) { upper = half_at(params.first + i + 1u, upper); }
  destination[word] = half_at(params.first + i, old & 0xffffu) | (upper << 16u);
}

fn half_at(i: u32, old: u32) -> u32 {
  var rest = i;
  var at = params.source_offset;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    at += (rest % size) * params.source_strides[e / 4u][e % 4u];
    rest /= size;
  }
  let place = at - params.source_first;
  if (place >= params.source_length) { return old; }
  return (source[place / 2u] >> (16u * (place % 2u))) & 0xffffu;
}
