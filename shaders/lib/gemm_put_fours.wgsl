// Columns n to n + 3 of a row of c that starts at `at`: N, offsets and the distance of rows are multiples of four.
// lib/gemm_put_ones has the same name for all others.
fn put(at: u32, n: u32, z: vec4f) { store_four((at + n) / 4u, z); }
