// c += z: sums over several products. See lib/gemm_store.
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
@group(0) @binding(6) var<storage, read_write> c4: array<vec4f>;

fn store_four(at: u32, z: vec4f) { c4[at] += z; }
fn store_some(at: u32, count: u32, z: vec4f) {
  for (var s = 0u; s < count; s++) { c[at + s] += z[s]; }
}
