// Walks through a source and a destination of one shape, in Words, an alias of the file that uses this. The grid has the
// dimensions of the walk, so that no index is divided: columns, rows, and slabs for all others, which each workgroup
// takes apart by itself.
struct Params {
  columns: u32, rows: u32, slabs: u32, first_slab: u32,
  source_offset: u32, source_column: u32, source_row: u32, source_slab: u32,
  target_offset: u32, target_column: u32, target_row: u32, target_slab: u32,
  // Dimensions beyond three: `slabs` is the first of those of a slab's number, and the others are looked up.
  more: u32,
  shape: array<vec4u, 2>, source_strides: array<vec4u, 2>, target_strides: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<Word>;
@group(0) @binding(2) var<storage, read_write> destination: array<Word>;

// Where a slab begins in both.
fn slab_at(slab: u32) -> vec2u {
  var place = params.first_slab + slab;
  var at = vec2u(params.source_offset, params.target_offset);
  if (params.more > 0u) {
    var rest = place / params.slabs;
    place -= rest * params.slabs;
    for (var d = 0u; d < params.more; d++) {
      let outside = rest / params.shape[d / 4u][d % 4u];
      let own = rest - outside * params.shape[d / 4u][d % 4u];
      at += own * vec2u(params.source_strides[d / 4u][d % 4u], params.target_strides[d / 4u][d % 4u]);
      rest = outside;
    }
  }
  return at + place * vec2u(params.source_slab, params.target_slab);
}
