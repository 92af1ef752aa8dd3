// c = f(z), f by number; z itself is kept where backward needs it. See lib/gemm_store.
// use: lib/activation
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
@group(0) @binding(6) var<storage, read_write> c4: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> kept: array<f32>;
@group(0) @binding(8) var<storage, read_write> kept4: array<vec4f>;

fn store_four(at: u32, z: vec4f) {
  c4[at] = activated(params.activation, z);
  if (params.keeps_z == 1u) { kept4[at] = z; }
}
fn store_some(at: u32, count: u32, z: vec4f) {
  let y = activated(params.activation, z);
  for (var s = 0u; s < count; s++) {
    c[at + s] = y[s];
    if (params.keeps_z == 1u) { kept[at + s] = z[s]; }
  }
}
