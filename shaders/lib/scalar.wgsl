// One element at a time: for rows whose length is not a multiple of four. See lib/vec4.
alias T = f32;
alias Bits = u32;
alias Whole = i32;
const WIDTH: u32 = 1u;

fn fold_sum(v: f32) -> f32 { return v; }
fn fold_max(v: f32) -> f32 { return v; }
fn inner(a: f32, b: f32) -> f32 { return a * b; }
fn element(v: f32, i: u32) -> f32 { return v; }
fn places() -> u32 { return 0u; }
fn is_place(i: u32, wanted: u32) -> f32 { return select(0.0, 1.0, i == wanted); }
