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
// The first: where there are four, lib/vec4 has all of them.
fn four(a: f32, b: f32, c: f32, d: f32) -> T { return a; }
fn four_whole(a: i32, b: i32, c: i32, d: i32) -> Whole { return a; }
