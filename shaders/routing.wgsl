// Which experts a route has drawn: drawn[route[i]] = 1. One thread: routes are short, and the order is fixed.
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> route: array<i32>;
@group(0) @binding(2) var<storage, read_write> drawn: array<u32>;

@compute @workgroup_size(1)
fn mark() {
  for (var i = 0u; i < params.n; i++) { drawn[route[i]] = 1u; }
}
