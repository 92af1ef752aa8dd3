// The sum of a T over the lanes of the subgroup that is the workgroup. See lib/lanes_workgroup.
fn lanes_sum(value: T, lane: u32) -> T { return subgroupAdd(value); }
