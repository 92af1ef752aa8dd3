// Dynamic loss scaling over a flat arena: g /= scale, and whether any g is infinite or NaN, by its exponent bits (no
// comparison sees a NaN on every driver). `update` moves the scale: down after a step that was skipped, up after
// `interval` steps that were not. Nothing is read back. Thread: one element. unscale reads 1, writes 1.
// use: lib/grid
struct Params { n: u32, growth: f32, backoff: f32, interval: f32 }
@group(0) @binding(0) var<uniform> params: Params;
// scale, steps since it last moved.
@group(0) @binding(1) var<storage, read> state_saved: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<u32>;
// 1: the optimiser leaves this step out.
@group(0) @binding(3) var<storage, read_write> skip: array<u32>;
@group(0) @binding(4) var<storage, read> skip_saved: array<u32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;

@compute @workgroup_size(64)
fn unscale(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let word = gradient[i];
  // Every thread that writes here writes the same.
  if ((word & 0x7f800000u) == 0x7f800000u) { skip[0] = 1u; }
  gradient[i] = bitcast<u32>(bitcast<f32>(word) / state_saved[0]);
}

// At most 2^24 and at least 2^-24: beyond them a scale helps nobody.
@compute @workgroup_size(1)
fn update() {
  let grown = state[1] + 1.0;
  if (skip_saved[0] != 0u) {
    state[0] = max(state[0] * params.backoff, 5.9604645e-8);
    state[1] = 0.0;
  } else if (grown >= params.interval) {
    state[0] = min(state[0] * params.growth, 16777216.0);
    state[1] = 0.0;
  } else {
    state[1] = grown;
  }
}
