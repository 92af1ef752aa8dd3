// A row is shared by the subgroups of a workgroup: for GPUs that have them. Two barriers take the place of the eight of
// lib/row_workgroup, which has the same names. Lanes of a subgroup are neighbours, in subgroups of any one size.
const LANES: u32 = 128u;
var<workgroup> row_scratch: array<f32, LANES>;

fn row_sum(value: f32, lane: u32) -> f32 {
  let size = subgroupAdd(1u);
  let part = subgroupAdd(value);
  if (lane % size == 0u) { row_scratch[lane / size] = part; }
  workgroupBarrier();
  if (lane == 0u) {
    var joint = row_scratch[0];
    for (var i = 1u; i < LANES / size; i++) { joint += row_scratch[i]; }
    row_scratch[0] = joint;
  }
  return workgroupUniformLoad(&row_scratch[0]);
}

fn row_max(value: f32, lane: u32) -> f32 {
  let size = subgroupAdd(1u);
  let part = subgroupMax(value);
  if (lane % size == 0u) { row_scratch[lane / size] = part; }
  workgroupBarrier();
  if (lane == 0u) {
    var largest = row_scratch[0];
    for (var i = 1u; i < LANES / size; i++) { largest = max(largest, row_scratch[i]); }
    row_scratch[0] = largest;
  }
  return workgroupUniformLoad(&row_scratch[0]);
}
