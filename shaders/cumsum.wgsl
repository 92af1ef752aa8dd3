// Running sums along the middle of x [outer, R, inner]: y[r] = Σ x[q] over q <= r, or q < r (exclusive), or counted from
// the end (reverse). `scan`: in each of `parts` blocks by itself, and the block's sum. `add`: what lies before a block is
// added to it, the sums of the blocks having been scanned themselves. Blocks of blocks: the error grows with the
// logarithm of R. Thread: one column of one block. Reads 1 (and 2 in `add`), writes 1. No barriers.
// use: lib/grid
struct Params { outer: u32, rows: u32, inner: u32, parts: u32, block: u32, exclusive: u32, reverse: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;
@group(0) @binding(3) var<storage, read_write> totals: array<E>;
@group(0) @binding(4) var<storage, read> before: array<E>;

// Or i32, u32.
alias E = f32;

struct Place { start: u32, step: u32, first: u32, last: u32, index: u32 }

// Where a thread's block lies, or a block of no rows beyond the last thread.
fn place(thread: u32) -> Place {
  let column = thread % params.inner;
  let part = (thread / params.inner) % params.parts;
  let outer = thread / (params.inner * params.parts);
  let last = select(0u, min((part + 1u) * params.block, params.rows), outer < params.outer);
  return Place(outer * params.rows * params.inner + column, params.inner, part * params.block, last, thread);
}

fn element(p: Place, r: u32) -> u32 { return p.start + select(r, params.rows - 1u - r, params.reverse == 1u) * p.step; }

@compute @workgroup_size(64)
fn scan(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let p = place(unfold(group, groups) * 64u + lane);
  var sum = E(0);
  for (var r = p.first; r < p.last; r++) {
    let i = element(p, r);
    let next = sum + x[i];
    y[i] = select(next, sum, params.exclusive == 1u);
    sum = next;
  }
  if (p.last > p.first) { totals[p.index] = sum; }
}

@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let p = place(unfold(group, groups) * 64u + lane);
  if (p.first == 0u) { return; }
  for (var r = p.first; r < p.last; r++) { y[element(p, r)] += before[p.index]; }
}
