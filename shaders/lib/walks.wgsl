// Walks through a source and a destination of one shape, in Words, an alias of the file that uses this. The grid has the
// dimensions of the walk, so that no index is divided: columns, rows, and slabs for all others, which each workgroup
// takes apart by itself.
struct Params {
  columns: u32, rows: u32, first_slab: u32,
  source_offset: u32, source_column: u32, source_row: u32,
  target_offset: u32, target_column: u32, target_row: u32,
  // Dimensions of the slabs but for the outermost, which has strides of its own.
  inner: u32, source_outer: u32, target_outer: u32,
  shape: array<vec4u, 2>, source_strides: array<vec4u, 2>, target_strides: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<Word>;
@group(0) @binding(2) var<storage, read_write> destination: array<Word>;

// Where a slab begins in both.
fn slab_at(slab: u32) -> vec2u {
  var rest = params.first_slab + slab;
  var at = vec2u(params.source_offset, params.target_offset);
  for (var d = 0u; d < params.inner; d++) {
    let outside = rest / params.shape[d / 4u][d % 4u];
    let place = rest - outside * params.shape[d / 4u][d % 4u];
    at += place * vec2u(params.source_strides[d / 4u][d % 4u], params.target_strides[d / 4u][d % 4u]);
    rest = outside;
  }
  return at + rest * vec2u(params.source_outer, params.target_outer);
}
