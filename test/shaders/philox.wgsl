// words[i] = the four words of Philox at counters[i].
// use: lib/philox
struct Params { n: u32, key0: u32, key1: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> counters: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> words: array<vec4u>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.n) { words[id.x] = philox(counters[id.x], vec2u(params.key0, params.key1)); }
}
