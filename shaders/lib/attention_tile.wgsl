// Tiles of 64 rows by 32 columns, for the attention of GPUs: rows are queries and columns keys, or the other way round.
// Workgroup: 8 x 16 threads. Thread (x, y) has the 4 x 4 scores of rows y, y + 16, y + 32, y + 48 and columns 4 x to 4 x + 3,
// and of results the same rows and groups of four channels x, x + 8, .. of SPANS spans of 32 channels. Scores never leave
// the threads but to be multiplied with values: [group of columns][row] they take the place of the rows' channels.
// 12,552 bytes of workgroup memory, 14,600 with the rows' maxima: every device has 16,384. Both tiles have a column to
// spare, so that neither those who fill nor those who read them meet in a bank.
// Functions find both tiles free, and leave them so: they end with a barrier.
// use: lib/heads_fours
const SPANS: u32 = 2u; // spans of 32 channels that a workgroup makes: head sizes up to 32 SPANS, others in several slices
const ROWS: u32 = 64u;
const COLUMNS: u32 = 32u;
const THREADS: u32 = 128u;
const RESULTS: u32 = 4u * SPANS; // [span][row of the thread]
const GROUPS: u32 = 8u * SPANS; // groups of four channels of a slice
const DEPTH: u32 = 8u; // groups of four channels that rows and columns are multiplied over at a time
const ROW_SIDE: u32 = ROWS + 1u;
const COLUMN_SIDE: u32 = COLUMNS + 1u;
const AT_ONCE: u32 = COLUMNS / SPANS / 4u * 4u; // columns whose values fit the tile

var<workgroup> tile_rows: array<vec4f, DEPTH * ROW_SIDE>;
var<workgroup> tile_columns: array<vec4f, DEPTH * COLUMN_SIDE>;

// Rows `first` and on of one head, as far as `limit`: row i starts at float start + i · step.
struct Part { start: u32, step: u32, first: u32, limit: u32 }

fn lane_of(at: vec2u) -> u32 { return at.y * 8u + at.x; }

// Four channels of a row of a part, 0 beyond its last one: what lies there may be NaN.
fn row_of(x: ptr<storage, array<Stored>, read>, part: Part, i: u32, channel: u32) -> vec4f {
  if (part.first + i >= part.limit) { return vec4f(0.0); }
  return four(x, part.start + (part.first + i) * part.step, channel);
}

// a_i · b_j for the 4 x 4 rows and columns of a thread, over all channels.
fn products(a: ptr<storage, array<Stored>, read>, rows: Part, b: ptr<storage, array<Stored>, read>, columns: Part,
            at: vec2u) -> array<vec4f, 4> {
  var sum: array<vec4f, 4>;
  for (var c = 0u; c < params.head_size; c += 4u * DEPTH) {
    for (var t = lane_of(at); t < ROWS * DEPTH; t += THREADS) {
      tile_rows[t % DEPTH * ROW_SIDE + t / DEPTH] = row_of(a, rows, t / DEPTH, c + t % DEPTH * 4u);
    }
    // Column j lies at j mod 4 · 8 + j div 4: so neighbouring threads read neighbours.
    for (var t = lane_of(at); t < COLUMNS * DEPTH; t += THREADS) {
      let j = t / DEPTH;
      tile_columns[t % DEPTH * COLUMN_SIDE + j % 4u * 8u + j / 4u] = row_of(b, columns, j, c + t % DEPTH * 4u);
    }
    workgroupBarrier();
    // As far as the head reaches: not a constant, so that no driver unrolls a body of 64 multiplications.
    for (var g = 0u; g < min(DEPTH, (params.head_size - c + 3u) / 4u); g++) {
      let b0 = tile_columns[g * COLUMN_SIDE + at.x];
      let b1 = tile_columns[g * COLUMN_SIDE + 8u + at.x];
      let b2 = tile_columns[g * COLUMN_SIDE + 16u + at.x];
      let b3 = tile_columns[g * COLUMN_SIDE + 24u + at.x];
      for (var i = 0u; i < 4u; i++) {
        let x = tile_rows[g * ROW_SIDE + i * 16u + at.y];
        sum[i] += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
      }
    }
    workgroupBarrier();
  }
  return sum;
}

// result_i += Σ_j weights_ij values_j, of the slice of channels that begins at `channel`.
fn add_weighted(weights: array<vec4f, 4>, values: ptr<storage, array<Stored>, read>, columns: Part, channel: u32,
                result: ptr<function, array<vec4f, RESULTS>>, at: vec2u) {
  for (var i = 0u; i < 4u; i++) { tile_rows[at.x * ROW_SIDE + i * 16u + at.y] = weights[i]; }
  let used = min(COLUMNS, columns.limit - columns.first);
  for (var first = 0u; first < used; first += AT_ONCE) {
    for (var t = lane_of(at); t < AT_ONCE * GROUPS; t += THREADS) {
      tile_columns[t] = row_of(values, columns, first + t / GROUPS, channel + t % GROUPS * 4u);
    }
    workgroupBarrier();
    for (var j = 0u; j < min(AT_ONCE, used - first); j += 4u) {
      var w: array<vec4f, 4>;
      for (var i = 0u; i < 4u; i++) { w[i] = tile_rows[(first + j) / 4u * ROW_SIDE + i * 16u + at.y]; }
      for (var s = 0u; s < SPANS; s++) {
        let v0 = tile_columns[j * GROUPS + s * 8u + at.x];
        let v1 = tile_columns[(j + 1u) * GROUPS + s * 8u + at.x];
        let v2 = tile_columns[(j + 2u) * GROUPS + s * 8u + at.x];
        let v3 = tile_columns[(j + 3u) * GROUPS + s * 8u + at.x];
        for (var i = 0u; i < 4u; i++) { (*result)[s * 4u + i] += w[i].x * v0 + w[i].y * v1 + w[i].z * v2 + w[i].w * v3; }
      }
    }
    workgroupBarrier();
  }
}

// What a workgroup makes: 64 rows of a head, and a slice of its channels.
struct Tile { batch: u32, head: u32, first: u32, channel: u32 }

fn slices() -> u32 { return (params.head_size + 32u * SPANS - 1u) / (32u * SPANS); }

// Tile i of `rows` rows of each of `heads` heads: slices of one tile come after one another, then tiles of one head.
fn tile_of(i: u32, rows: u32, heads: u32) -> Tile {
  let tiles = (rows + ROWS - 1u) / ROWS;
  let row = i / slices();
  let head = row / tiles;
  return Tile(head / heads, head % heads, row % tiles * ROWS, i % slices() * 32u * SPANS);
}

// Tiles of queries, the last ones of a head first: where causality holds they see most keys, and long work should not end last.
fn query_tile(i: u32) -> Tile {
  var tile = tile_of(i, params.queries, params.heads);
  tile.first = (params.queries - 1u) / ROWS * ROWS - tile.first;
  return tile;
}

// Rows of queries, and of keys, of a head of queries.
fn queries_of(batch: u32, head: u32, first: u32) -> Part {
  let step = params.heads * params.head_size;
  return Part(batch * params.queries * step + head * params.head_size, step, first, params.queries);
}
fn keys_of(batch: u32, head: u32, first: u32) -> Part {
  let step = params.heads / params.share * params.head_size;
  return Part(batch * params.capacity * step + head / params.share * params.head_size, step, first, params.keys);
}

// What follows is of four queries and keys at once: a row of the thread with its four columns.
fn four_from(first: u32) -> vec4u { return vec4u(first) + vec4u(0u, 1u, 2u, 3u); }

fn seen(query: vec4u, key: vec4u) -> vec4<bool> {
  let inside = (query < vec4u(params.queries)) & (key < vec4u(params.keys));
  if (params.causal == 0u) { return inside; }
  return inside & (key + params.queries <= query + params.keys);
}

fn padding(batch: u32, key: vec4u) -> vec4<bool> {
  return vec4<bool>(is_padding(batch, key.x), is_padding(batch, key.y), is_padding(batch, key.z), is_padding(batch, key.w));
}

// As `score` in lib/attention.
fn scores_of(dots: vec4f, batch: u32, head: u32, query: vec4u, key: vec4u, padded: vec4<bool>) -> vec4f {
  var s = dots * params.scale;
  if (params.has_bias == 1u) {
    let at = vec4u(batch * params.bias_batch + head * params.bias_head) + query * params.bias_query + key * params.bias_key;
    let b = vec4f(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
    s += select(b, vec4f(LOWEST), bitcast<vec4u>(b) == vec4u(0xff800000u));
  }
  return select(s, vec4f(MASKED), padded);
}

// Which of the 4 x 4 weights dropout keeps: bit 4 i + e for row `row` + 16 i and column `column` + e. A loop with one copy
// of the generator: sixteen would not fit instruction caches.
fn kept_bits(batch: u32, head: u32, row: u32, column: u32, rows_are_keys: bool, seed_step: vec2u) -> u32 {
  var bits = 0xffffu * (1u - params.dropout);
  for (var n = 0u; n < 16u * params.dropout; n++) {
    let r = row + n / 4u * 16u;
    let c = column + n % 4u;
    let factor = kept(Query(batch, head, select(r, c, rows_are_keys)), select(c, r, rows_are_keys), seed_step);
    bits |= select(0u, 1u << n, factor != 0.0);
  }
  return bits;
}
fn factors(bits: u32, i: u32) -> vec4f {
  return select(vec4f(0.0), vec4f(params.keep_scale), (vec4u(bits >> (4u * i)) & vec4u(1u, 2u, 4u, 8u)) != vec4u(0u));
}

// The largest number of all threads of the workgroup, for all of them.
var<workgroup> joint: atomic<u32>;
var<workgroup> agreed: u32;
fn largest_of_all(own: u32, at: vec2u) -> u32 {
  atomicMax(&joint, own);
  workgroupBarrier();
  if (lane_of(at) == 0u) { agreed = atomicExchange(&joint, 0u); }
  return workgroupUniformLoad(&agreed);
}

// The tiles of the first `end` keys, beginning with the `kept` neighbouring ones from `first` on: all others are padding.
struct KeyTiles { first: u32, kept: u32, all: u32 }
fn key_tiles(batch: u32, end: u32, at: vec2u) -> KeyTiles {
  let all = (end + COLUMNS - 1u) / COLUMNS;
  if (params.masked == 0u) { return KeyTiles(0u, all, all); }
  var left = 0u; // keys from the first one on that is none, and up to the last one
  var right = 0u;
  for (var j = lane_of(at); j < end; j += THREADS) {
    if (is_padding(batch, j)) { continue; }
    left = max(left, end - j);
    right = j + 1u;
  }
  let first = (end - largest_of_all(left, at)) / COLUMNS;
  let last = (largest_of_all(right, at) + COLUMNS - 1u) / COLUMNS;
  if (last <= first) { return KeyTiles(0u, 0u, all); }
  return KeyTiles(first, last - first, all);
}
// The first key of tile i of them.
fn key_of_tile(tiles: KeyTiles, i: u32) -> u32 { return (tiles.first + i) % tiles.all * COLUMNS; }

// Scores beside which a masked one weighs exp(MASKED - s) = 0. A query whose largest score is none of them, since every
// key that it sees is masked or biased as low, needs the tiles of padding too.
fn outweighs(largest: vec4f) -> vec4<bool> { return largest > vec4f(0.5 * MASKED); }
