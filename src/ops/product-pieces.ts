import type { Contraction, Operand, Piece } from "./contraction.ts";
import type { Layout, Product, Strides } from "./product.ts";

/** The product as walks through its operands, for cutting. */
export function contractionOf(p: Product, s: Strides): Contraction {
  const { M, N, K, batch = 1, bias, route } = p;
  const picks = p.routing === "pick";
  const collects = p.routing === "collect";
  const { share, inner } = headsOf(p);
  const a = { block: s.stride_a, inner: s.inner_a * share, shared: s.inner_a, group: s.sum_a };
  const b = { [picks ? "expert" : "block"]: s.stride_b, inner: s.inner_b, group: s.sum_b };
  const c = { [collects ? "expert" : "block"]: s.stride_c, inner: s.inner_c * share, shared: s.inner_c };
  const inputs: Record<string, Operand> = {
    a: { array: p.a, start: s.start_a, strides: { ...a, m: s.a_row, k: s.a_column } },
    b: { array: p.b, start: s.start_b, strides: { ...b, n: s.b_column, k: s.b_row } },
  };
  if (bias) inputs.bias = { array: bias, strides: { expert: picks ? (p.biasStride ?? N) : 0, n: 1 } };
  if (route) inputs.route = { array: route, strides: { [picks ? "block" : "group"]: 1 } };
  const experts = collects ? batch : picks ? Math.floor(p.b.size / s.stride_b) : 1;
  const group = collects ? (route?.size ?? 0) : (p.sums ?? 1);
  const block = collects ? 1 : batch / (inner * share);
  return {
    sizes: { block, inner, shared: share, m: M, n: N, k: K, group, expert: experts },
    inputs,
    output: { array: p.c, start: s.start_c, strides: { ...c, m: s.c_row, n: 1 } },
    accumulates: p.accumulate === true,
  };
}

/** The heads of a block: `inner` groups of `share` neighbours that have one b. A part of a group is a group. */
function headsOf({ inner = 1, share = 1 }: Product): { readonly inner: number; readonly share: number } {
  return { inner: Math.ceil(inner / share), share: Math.min(inner, share) };
}

/** A piece as a product of its own. Only the first term of a sum adds the bias. */
export function productOf(p: Product, { sizes, inputs, output, continues, accumulates }: Piece): Product {
  const { m: M, n: N, k: K, inner, shared } = sizes;
  const collects = p.routing === "collect";
  const { a, b, bias, route } = inputs as Readonly<Record<"a" | "b", Operand> & Record<string, Operand>>;
  return {
    ...p,
    a: a.array,
    b: b.array,
    c: output.array,
    bias: continues ? null : (bias?.array ?? null),
    ...(bias?.strides.expert && { biasStride: bias.strides.expert }),
    ...(route && { route: route.array }),
    accumulate: accumulates,
    M,
    N,
    K,
    batch: collects ? sizes.expert : sizes.block * inner * shared,
    inner: inner * shared,
    share: shared,
    sums: collects ? 1 : sizes.group,
    layoutA: layoutOf(a, p.transposeA ? "k" : "m", inner, collects),
    layoutB: { ...layoutOf(b, p.transposeB ? "n" : "k", inner, collects), inner: b.strides.inner ?? 0 },
    layoutC: layoutOf(output, "m", inner, collects),
  };
}

/** Heads are `shared` apart; where each group has one, groups are. */
function layoutOf(
  { start = 0, strides }: Operand,
  row: "m" | "n" | "k",
  inner: number,
  collects: boolean,
): Layout {
  const { block = 0, expert = 0, group = 0, shared = 0 } = strides;
  return {
    start,
    row: strides[row] ?? 0,
    stride: collects && group > 0 ? group : block + expert,
    sum: collects ? 0 : group,
    inner: inner > 1 && shared === 0 ? (strides.inner ?? 0) : shared,
  };
}
