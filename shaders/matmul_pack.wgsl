// Writes an operand of a product in the order in which shaders/matmul_panels.wgsl reads it: panels of 32 rows of a, or
// columns of b, one behind the other. What lies beyond K is 0.
// An item is a block of four neighbours of M (or N) by four of K. Thread: one item; reads 16 floats, writes 4 texels.
// A copy takes them to the texture: a store to a texture costs more than twice of a store to a buffer and the copy.
// The operand is bound as b, and may be stored in halves.
// use: lib/grid
// use: lib/panel
// use: lib/gemm_load_fours
struct Params {
  // Rows of a or columns of b, K, and where they lie, in floats: the first, the next of each.
  count: u32, K: u32, start: u32, next: u32, next_k: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> packed: array<vec4f>;

// Neighbours in memory are of K; else they are rows of a or columns of b.
const IS_ALONG_K: bool = true;
// Texels hold four of K, for a; else four columns of b.
const IS_LEFT: bool = true;

fn in_sum(k: u32, v: vec4f) -> vec4f { return select(vec4f(0.0), v, k < params.K); }

@compute @workgroup_size(64)
fn pack(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = unfold(group, groups) * 64u + thread;
  let deep = (params.K + 3u) / 4u;
  // Eight items side by side in a panel, then K, then the next panel.
  let side = i % 8u;
  let k = i / 8u % deep * 4u;
  let panel = i / 8u / deep;
  if (panel * PANEL >= params.count) { return; }
  let first = panel * PANEL + 4u * side;
  var block: mat4x4f;
  if (IS_ALONG_K) {
    for (var t = 0u; t < 4u; t++) {
      let at = params.start + min(first + t, params.count - 1u) * params.next + k;
      block[t] = along(k, load_b4(at / UNIT));
    }
  } else {
    for (var t = 0u; t < 4u; t++) {
      let at = params.start + min(first, params.count - 1u) + min(k + t, params.K - 1u) * params.next_k;
      block[t] = in_sum(k + t, load_b4(at / UNIT));
    }
  }
  if (IS_ALONG_K != IS_LEFT) { block = transpose(block); }
  let target_at = (panel * deep + k / 4u) * PANEL;
  for (var t = 0u; t < 4u; t++) {
    packed[target_at + select(8u * t + side, 4u * side + t, IS_LEFT)] = block[t];
  }
}
