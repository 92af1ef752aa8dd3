// The sum of a T over the lanes of the subgroup that is the workgroup. See lib/lanes_workgroup.
// use: lib/vec4
fn lanes_sum(value: T, lane: u32) -> T { return subgroupAdd(value); }
