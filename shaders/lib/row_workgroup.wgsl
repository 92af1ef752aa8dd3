// A row is shared by a workgroup: for GPUs. lib/row_subgroup has the same names without barriers.
const LANES: u32 = 128u;
var<workgroup> row_scratch: array<f32, LANES>;

fn row_sum(value: f32, lane: u32) -> f32 {
  row_scratch[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { row_scratch[lane] += row_scratch[lane + half]; }
  }
  return workgroupUniformLoad(&row_scratch[0]);
}

fn row_max(value: f32, lane: u32) -> f32 {
  row_scratch[lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { row_scratch[lane] = max(row_scratch[lane], row_scratch[lane + half]); }
  }
  return workgroupUniformLoad(&row_scratch[0]);
}
