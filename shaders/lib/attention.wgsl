// What every attention kernel is told, and the score of a query and a key. A kernel works on a block of the whole
// [all_batches.., all_heads, all_queries]: `batch` entries from first_batch on, `heads` from first_head on, `queries` from
// first_query on (the fused kernels: all of them). Keys are the first `keys` rows of a cache of `capacity` rows; `share`
// neighbouring heads have one head of keys and values. Queries are the last of the keys where their numbers differ.
// bias [B or 1, H or 1, T or 1, S or 1] by its strides, 0 where it is broadcast. The arrays may hold the entries of a
// longer batch from first_drawn on.
struct Params {
  batch: u32, heads: u32, queries: u32, first_batch: u32, first_head: u32, first_query: u32, all_heads: u32, all_queries: u32,
  keys: u32, capacity: u32, share: u32, scale: f32, masked: u32, keep_row: u32, causal: u32,
  bias_batch: u32, bias_head: u32, bias_query: u32, bias_key: u32,
  dropout: u32, threshold: u32, keep_scale: f32, stream: u32, examples: u32, first_example: u32, first_pass: u32, dv_start: u32,
  first_drawn: u32, head_size: u32, has_bias: u32, parts: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read> keep: array<i32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// use: lib/philox

const HAS_BIAS: bool = false; // of software adapters and single queries; lib/attention_tile asks has_bias
// The score of a masked key: finite, so that a query with every key masked attends uniformly.
const MASKED: f32 = -1e9;
// The lowest f32. A bias of -Inf counts as this one.
const LOWEST: f32 = -0x1.fffffep+127f;

// A query of a head, in the whole.
struct Query { batch: u32, head: u32, index: u32 }

// Query `i` of the block, whose order is batch, head, index.
fn query_of(i: u32) -> Query {
  let row = i / params.queries;
  return Query(params.first_batch + row / params.heads, params.first_head + row % params.heads, params.first_query + i % params.queries);
}

// How many keys a query sees, padding among them.
fn visible(q: Query) -> u32 { return select(params.keys, q.index + 1u + params.keys - params.all_queries, params.causal == 1u); }

fn is_padding(batch: u32, j: u32) -> bool { return params.masked == 1u && keep[batch * params.keep_row + j] == 0; }

fn bias_index(q: Query, j: u32) -> u32 {
  return q.batch * params.bias_batch + q.head * params.bias_head + q.index * params.bias_query + j * params.bias_key;
}

fn score(product: f32, q: Query, j: u32) -> f32 {
  var s = product * params.scale;
  if (HAS_BIAS) {
    let b = bias[bias_index(q, j)];
    s += select(b, LOWEST, bitcast<u32>(b) == 0xff800000u); // not max: NaN stays NaN
  }
  return select(s, MASKED, is_padding(q.batch, j));
}

// 0 or 1 / (1 - p) for the weight of key j.
fn kept(q: Query, j: u32, seed_step: vec2u) -> f32 {
  if (params.dropout == 0u) { return 1.0; }
  let element = (q.head * params.all_queries + q.index) * params.keys + j;
  let d = Draw(params.stream, params.examples, params.first_example, params.first_pass);
  return select(0.0, params.keep_scale, draw(element, params.first_drawn + q.batch, seed_step.x, seed_step.y, d).x >= params.threshold);
}

// The part of the bias that a block meets: its sizes, 1 where it is broadcast.
struct BiasBlock { batches: u32, heads: u32, queries: u32, keys: u32 }
fn bias_block() -> BiasBlock {
  return BiasBlock(select(1u, params.batch, params.bias_batch != 0u), select(1u, params.heads, params.bias_head != 0u),
                   select(1u, params.queries, params.bias_query != 0u), select(1u, params.keys, params.bias_key != 0u));
}

// Element i of that part, counted within the block; steps of the part's sizes lead to all scores that it was added to.
struct BiasElement { at: Query, key: u32 }
fn bias_element(b: BiasBlock, i: u32) -> BiasElement {
  let row = i / b.keys;
  return BiasElement(Query(row / b.queries / b.heads, row / b.queries % b.heads, row % b.queries), i % b.keys);
}
