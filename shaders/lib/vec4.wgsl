// Four elements at a time. lib/scalar has the same names for one.
alias T = vec4f;
alias Bits = vec4u;
alias Whole = vec4i;
const WIDTH: u32 = 4u;

fn fold_sum(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn fold_max(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn inner(a: vec4f, b: vec4f) -> f32 { return dot(a, b); }
fn element(v: vec4f, i: u32) -> f32 { return v[i]; }
// 0, 1, 2, 3: the place of each element in its group.
fn places() -> vec4u { return vec4u(0u, 1u, 2u, 3u); }
fn is_place(i: vec4u, wanted: u32) -> vec4f { return select(vec4f(0.0), vec4f(1.0), i == vec4u(wanted)); }
fn four(a: f32, b: f32, c: f32, d: f32) -> T { return vec4f(a, b, c, d); }
fn four_whole(a: i32, b: i32, c: i32, d: i32) -> Whole { return vec4i(a, b, c, d); }
