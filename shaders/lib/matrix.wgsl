// Matrices that a subgroup holds and multiplies together: left [ROWS, STEP] and right [STEP, COLUMNS] of halves from
// workgroup memory, sums [ROWS, COLUMNS] in f32. The device names the sizes it has. lib/matrix_emulated has the same names.
alias half = f16;
alias Left = subgroup_matrix_left<f16, 16, 16>; // <type, columns, rows>
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

fn enter(lane: u32) {}
fn load_left(at: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&tile_a, at, ROW_A); }
fn load_right(at: u32) -> Right { return subgroupMatrixLoad<Right, col_major>(&tile_b, at, ROW_B); }
fn multiplied(left: Left, right: Right, sum: Sum) -> Sum { return subgroupMatrixMultiplyAccumulate(left, right, sum); }
fn keep(at: u32, sum: Sum) { subgroupMatrixStore<row_major>(&results, at, sum, COLUMNS); }
