// Operands of products, one float at a time: any sizes and offsets. b may be stored in halves. See lib/gemm_load_fours.
const UNIT: u32 = 1u;
alias stored_b = f32;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<stored_b>;

fn load_a4(i: u32) -> vec4f { return vec4f(a[i], a[i + 1u], a[i + 2u], a[i + 3u]); }
fn load_b4(i: u32) -> vec4f { return vec4f(b[i], b[i + 1u], b[i + 2u], b[i + 3u]); }
// What lies beyond K is 0.
fn row(k: u32, v: vec4f) -> vec4f { return in_sum(k, v); }
fn along(k: u32, v: vec4f) -> vec4f { return select(vec4f(0.0), v, vec4u(k, k + 1u, k + 2u, k + 3u) < vec4u(params.K)); }
