// Stable order of each row by merging: x [rows, n] -> places [rows, n], a place being where an element lies in its row.
//   blocks: in blocks of 16, each element counts how many of its block come before it.
//   merge: two runs of `run` elements become one of 2 run. A thread finds by bisection how many of its CHUNK results come
//     from the left run, and merges them.
// Keys are whole numbers (lib/order), inverted with `flip` = 1, which sorts downwards; equal ones keep their order.
// Reads 16 (merge: 2 and the bisection), writes 2. No barriers.
// use: lib/order
// use: lib/grid
struct Params { rows: u32, n: u32, run: u32, kind: u32, flip: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> keys: array<i32>;
@group(0) @binding(3) var<storage, read> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> sorted_keys: array<i32>;
@group(0) @binding(5) var<storage, read_write> sorted_places: array<u32>;

const BLOCK: u32 = 16u;
const CHUNK: u32 = 16u;

fn key_at(i: u32) -> i32 { return number_key(x[i], params.kind) ^ select(0i, -1i, params.flip == 1u); }

// Thread: one element.
@compute @workgroup_size(64)
fn blocks(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.rows * params.n) { return; }
  let base = i / params.n * params.n;
  let place = i - base;
  let block = place / BLOCK * BLOCK;
  let key = key_at(i);
  var before = block;
  for (var other = block; other < min(block + BLOCK, params.n); other++) {
    let rival = key_at(base + other);
    before += select(0u, 1u, rival < key || (rival == key && other < place));
  }
  sorted_keys[base + before] = key;
  sorted_places[base + before] = place;
}

// Thread: CHUNK results, of one pair of runs since `run` is a multiple of CHUNK.
@compute @workgroup_size(64)
fn merge(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  let chunks = (params.n + CHUNK - 1u) / CHUNK;
  if (i >= params.rows * chunks) { return; }
  let base = i / chunks * params.n;
  let first = i % chunks * CHUNK;
  let start = first / (2u * params.run) * (2u * params.run);
  let middle = min(start + params.run, params.n);
  let end = min(start + 2u * params.run, params.n);
  let rank = first - start;
  // Of the first `rank` results, how many are of the left run: the least number that leaves the rest no later.
  var low = rank - min(rank, end - middle);
  var high = min(rank, middle - start);
  while (low < high) {
    let half = (low + high) / 2u;
    if (keys[base + start + half] <= keys[base + middle + rank - 1u - half]) { low = half + 1u; } else { high = half; }
  }
  var left = start + low;
  var right = middle + rank - low;
  for (var result = first; result < min(first + CHUNK, end); result++) {
    let takes_left = right >= end || (left < middle && keys[base + left] <= keys[base + min(right, end - 1u)]);
    let source = base + select(right, left, takes_left);
    sorted_keys[base + result] = keys[source];
    sorted_places[base + result] = places[source];
    left += select(0u, 1u, takes_left);
    right += select(1u, 0u, takes_left);
  }
}
