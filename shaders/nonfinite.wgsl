// Looks for NaN and infinity in one array of a dispatch, by exponent bits: no comparison finds them on every driver.
// `found` keeps the first check, in the order of dispatches, that met one; checks after it look no more. One check
// stands for one written array. Each thread takes every so many-th element of a strided array. Reads 1, writes nothing
// as long as all is well. The minima make the answer independent of the order of threads.
struct Params {
  n: u32, rank: u32, offset: u32,
  // Elements in a word (1, or 2 of 16 bits), and the bits of an element's exponent and fraction.
  in_word: u32, exponent: u32, fraction: u32,
  // The number of this check; for an array that is only read, the dispatch's first check and the array's place.
  check: u32, is_input: u32, place: u32,
  shape: array<vec4u, 2>, strides: array<vec4u, 2>,
}
struct Found {
  check: atomic<u32>,
  first_nan: atomic<u32>,
  first_infinity: atomic<u32>,
  padding: u32,
  // For each array that a kernel reads: the last check whose dispatch read a bad one.
  inputs: array<atomic<u32>, 8>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> found: Found;

fn element(i: u32) -> u32 {
  var at = params.offset;
  var rest = i;
  for (var d = params.rank; d > 0u; d--) {
    let e = d - 1u;
    let size = params.shape[e / 4u][e % 4u];
    at += (rest % size) * params.strides[e / 4u][e % 4u];
    rest /= size;
  }
  if (params.in_word == 1u) { return x[at]; }
  return (x[at / 2u] >> (16u * (at % 2u))) & 0xffffu;
}

@compute @workgroup_size(64)
fn look(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  if (atomicLoad(&found.check) < params.check) { return; }
  for (var i = id.x; i < params.n; i += 64u * groups.x) {
    let bits = element(i);
    if ((bits & params.exponent) != params.exponent) { continue; }
    if (params.is_input != 0u) {
      atomicStore(&found.inputs[params.place], params.check);
      return;
    }
    atomicMin(&found.check, params.check);
    if ((bits & params.fraction) != 0u) { atomicMin(&found.first_nan, i); } else { atomicMin(&found.first_infinity, i); }
  }
}
