// Operands of products, four floats at a time along the contiguous dimension: offsets and the distance of rows are
// multiples of four, and so is K where it is that dimension. lib/gemm_load_ones has the same names for all others.
// Indices count groups of UNIT floats. b may be stored in halves: stored_b and load_b4 are specialised.
const UNIT: u32 = 4u;
alias stored_b = vec4f;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<stored_b>;

fn load_a4(i: u32) -> vec4f { return a[i]; }
fn load_b4(i: u32) -> vec4f { return b[i]; }
// Row k of a sum over K, and elements k to k + 3 of it: K is a multiple of four.
fn row(k: u32, v: vec4f) -> vec4f { return v; }
fn along(k: u32, v: vec4f) -> vec4f { return v; }
