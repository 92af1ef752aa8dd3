// Columns n to n + 3 of a row of c that starts at `at`, as far as it reaches. See lib/gemm_put_fours.
fn put(at: u32, n: u32, z: vec4f) { store_some(at + n, min(4u, params.N - n), z); }
