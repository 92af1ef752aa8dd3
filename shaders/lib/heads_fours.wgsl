// Rows of a head, four channels at a time: head sizes that are multiples of four. lib/heads_ones has the same names for
// all others. A row starts at float `at`; what lies beyond the head is 0, and is not written.
alias Stored = vec4f;

fn four(x: ptr<storage, array<Stored>, read>, at: u32, channel: u32) -> vec4f {
  if (channel >= params.head_size) { return vec4f(0.0); }
  return (*x)[(at + channel) / 4u];
}
fn put_four(x: ptr<storage, array<Stored>, read_write>, at: u32, channel: u32, value: vec4f) {
  if (channel < params.head_size) { (*x)[(at + channel) / 4u] = value; }
}
