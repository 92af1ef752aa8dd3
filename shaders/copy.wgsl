// destination[strided] = source[strided], bit for bit, whatever the words are, or another function of the two.
// Thread: one Word. Reads 1, writes 1.
// use: lib/walks
alias Word = u32;
fn moved(old: Word, next: Word) -> Word { return next; }

@compute @workgroup_size(16, 4)
fn strided(@builtin(global_invocation_id) place: vec3u) {
  if (place.x >= params.columns || place.y >= params.rows) { return; }
  let at = slab_at(place.z)
    + place.x * vec2u(params.source_column, params.target_column)
    + place.y * vec2u(params.source_row, params.target_row);
  destination[at.y] = moved(destination[at.y], source[at.x]);
}
