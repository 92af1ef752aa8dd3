// Which slices of an arena (a parameter, or one expert of a bank) take part in a step, and how many steps each has taken.
// drawn [slices] u32 -> steps [slices], and takes_part: steps taken with this one, at most `most`; 0: the slice is left out.
// Thread: one slice.
struct Params { slices: u32, most: u32, undrawn: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> drawn: array<u32>;
// Not 0: the whole step is left out, since a gradient was not finite (shaders/loss_scale.wgsl).
@group(0) @binding(2) var<storage, read> skip: array<u32>;
@group(0) @binding(3) var<storage, read_write> steps: array<u32>;
@group(0) @binding(4) var<storage, read_write> takes_part: array<u32>;

// undrawn 0 "authors": out until first drawn, then always in. 1 "zeroGrad": always in. 2 "skip": in when drawn.
// Paper's code; see the option `undrawn` of src/optim/slice-steps.ts.
@compute @workgroup_size(64)
fn advance(@builtin(global_invocation_id) id: vec3u) {
  let s = id.x;
  if (s >= params.slices) { return; }
  if (skip[0] != 0u) {
    takes_part[s] = 0u;
    return;
  }
  let used = drawn[s] != 0u;
  let counts = used || params.undrawn == 1u || (params.undrawn == 0u && steps[s] > 0u);
  if (counts) { steps[s] += 1u; }
  takes_part[s] = select(0u, min(steps[s], params.most), counts);
}
