// A row is shared by one subgroup, which is the whole workgroup: for software adapters, where barriers
// cost most. lib/row_workgroup has the same names.
const LANES: u32 = 8u;

fn row_sum(value: f32, lane: u32) -> f32 { return subgroupAdd(value); }
fn row_max(value: f32, lane: u32) -> f32 { return subgroupMax(value); }
