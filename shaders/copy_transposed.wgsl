// destination = source transposed, bit for bit, or another function of the two: rows lie together in the source and
// columns in the destination, four to a Word, and both are counted in fours. Thread: 4 x 4 words. Reads 1, writes 1.
// use: lib/walks
alias Word = vec4u;
fn moved(old: Word, next: Word) -> Word { return next; }

@compute @workgroup_size(16, 4)
fn strided(@builtin(global_invocation_id) place: vec3u) {
  if (place.x >= params.columns || place.y >= params.rows) { return; }
  let at = slab_at(place.z) + vec2u(4u * place.x * params.source_column + place.y, 4u * place.y * params.target_row + place.x);
  let a = source[at.x];
  let b = source[at.x + params.source_column];
  let c = source[at.x + 2u * params.source_column];
  let d = source[at.x + 3u * params.source_column];
  for (var i = 0u; i < 4u; i++) {
    let to = at.y + i * params.target_row;
    destination[to] = moved(destination[to], Word(a[i], b[i], c[i], d[i]));
  }
}
