// The sum of a T over the lanes that share a row, beside lib/row_workgroup.
// lib/lanes_subgroup has the same name without barriers.
// use: lib/vec4
var<workgroup> lane_scratch: array<T, LANES>;

fn lanes_sum(value: T, lane: u32) -> T {
  workgroupBarrier();
  lane_scratch[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { lane_scratch[lane] += lane_scratch[lane + half]; }
  }
  workgroupBarrier();
  return lane_scratch[0];
}
