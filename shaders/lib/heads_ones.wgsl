// Rows of a head of any size, one channel at a time. See lib/heads_fours.
alias Stored = f32;

fn four(x: ptr<storage, array<Stored>, read>, at: u32, channel: u32) -> vec4f {
  let i = at + channel;
  let value = vec4f((*x)[i], (*x)[i + 1u], (*x)[i + 2u], (*x)[i + 3u]);
  return select(vec4f(0.0), value, vec4u(channel, channel + 1u, channel + 2u, channel + 3u) < vec4u(params.head_size));
}
fn put_four(x: ptr<storage, array<Stored>, read_write>, at: u32, channel: u32, value: vec4f) {
  for (var c = 0u; c < 4u && channel + c < params.head_size; c++) { (*x)[at + channel + c] = value[c]; }
}
