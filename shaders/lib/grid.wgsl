// Unfolds the two-dimensional grid that `grid1d` makes of a long one-dimensional one.
fn unfold(group: vec3u, groups: vec3u) -> u32 { return group.x + group.y * groups.x; }
