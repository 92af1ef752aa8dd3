// Layer normalisation over the last dimension: y = (x - mean) rstd weight + bias.
// x [rows, C], weight [C], bias [C] -> y [rows, C]; mean, rstd [rows] are saved. Workgroup: ROWS rows.
// Sums are of x - rough and its square, rough the mean of the first elements of the row: E[x²] - E[x]² fails when
// mean >> std. Where those elements lie far from the mean, the row is added up once more.
// Forward reads 2 and writes 1; backward_x reads 4, writes 1; weight and bias are read once for ROWS rows.
// use: lib/vec4
// use: lib/row_workgroup
// use: lib/grid
struct Params { rows: u32, columns: u32, eps: f32, block: u32, parts: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> weight: array<T>;
@group(0) @binding(3) var<storage, read> bias: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<storage, read_write> mean: array<f32>;
@group(0) @binding(6) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<T>;
@group(0) @binding(8) var<storage, read> mean_saved: array<f32>;
@group(0) @binding(9) var<storage, read> rstd_saved: array<f32>;
@group(0) @binding(10) var<storage, read_write> dx: array<T>;
@group(0) @binding(11) var<storage, read_write> dweight: array<T>;
@group(0) @binding(12) var<storage, read_write> dbias: array<T>;
@group(0) @binding(13) var<storage, read> residual: array<T>;
@group(0) @binding(14) var<storage, read_write> total: array<T>;

// Rows that a workgroup takes side by side: those of a GPU would be too few.
const ROWS: u32 = 1u;

// The last rows may be taken twice.
fn base_of(first: u32, r: u32) -> u32 { return min(first + r, params.rows - 1u) * params.columns; }

// What is normalised: x, or in `forward_sum` the sum that was kept, total[i].
fn seen(i: u32) -> T { return x[i]; }

// What a row's sums are taken from: the mean of `sample` over the first LANES groups.
fn rough_mean(sample: T, lane: u32) -> f32 {
  let own = select(T(0.0), sample, lane < params.columns);
  return row_sum(fold_sum(own), lane) / f32(min(params.columns, LANES) * WIDTH);
}

// A lane's parts of the sums over a row.
struct Sums { rough: f32, rest: T, squares: T }

fn add_to(sums: ptr<function, Sums>, v: T) {
  let d = v - (*sums).rough;
  (*sums).rest += d;
  (*sums).squares += d * d;
}

// The mean is rough + shift.
struct Measure { shift: f32, variance: f32 }

fn measure(sums: Sums, lane: u32) -> Measure {
  let n = f32(params.columns * WIDTH);
  let shift = row_sum(fold_sum(sums.rest), lane) / n;
  return Measure(shift, max(row_sum(fold_sum(sums.squares), lane) / n - shift * shift, 0.0));
}

// From the sums of ROWS rows on.
fn normalise(first: u32, lane: u32, sums: ptr<function, array<Sums, ROWS>>) {
  var shifts: array<f32, ROWS>;
  var scales: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    var found = measure((*sums)[r], lane);
    if (found.shift * found.shift > 4.0 * found.variance) {
      (*sums)[r] = Sums((*sums)[r].rough + found.shift, T(0.0), T(0.0));
      for (var c = lane; c < params.columns; c += LANES) { add_to(&(*sums)[r], seen(base_of(first, r) + c)); }
      found = measure((*sums)[r], lane);
    }
    shifts[r] = found.shift;
    scales[r] = 1.0 / sqrt(found.variance + params.eps);
  }
  for (var c = lane; c < params.columns; c += LANES) {
    let w = weight[c];
    let b = bias[c];
    for (var r = 0u; r < ROWS; r++) {
      let i = base_of(first, r) + c;
      y[i] = ((seen(i) - (*sums)[r].rough) - shifts[r]) * scales[r] * w + b;
    }
  }
  if (lane != 0u) { return; }
  for (var r = 0u; r < min(ROWS, params.rows - first); r++) {
    mean[first + r] = (*sums)[r].rough + shifts[r];
    rstd[first + r] = scales[r];
  }
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * ROWS;
  if (first >= params.rows) { return; }
  var sums: array<Sums, ROWS>;
  for (var r = 0u; r < ROWS; r++) { sums[r].rough = rough_mean(x[base_of(first, r) + min(lane, params.columns - 1u)], lane); }
  for (var c = lane; c < params.columns; c += LANES) {
    for (var r = 0u; r < ROWS; r++) { add_to(&sums[r], x[base_of(first, r) + c]); }
  }
  normalise(first, lane, &sums);
}

// The same of x + residual, whose sum is kept: total. Reads 3, writes 2.
@compute @workgroup_size(LANES)
fn forward_sum(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * ROWS;
  if (first >= params.rows) { return; }
  var sums: array<Sums, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    let i = base_of(first, r) + min(lane, params.columns - 1u);
    sums[r].rough = rough_mean(x[i] + residual[i], lane);
  }
  for (var c = lane; c < params.columns; c += LANES) {
    for (var r = 0u; r < ROWS; r++) {
      let i = base_of(first, r) + c;
      let v = x[i] + residual[i];
      total[i] = v;
      add_to(&sums[r], v);
    }
  }
  normalise(first, lane, &sums);
}

// dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight, xhat = (x - mean) rstd.
@compute @workgroup_size(LANES)
fn backward_x(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = unfold(group, groups) * ROWS;
  if (first >= params.rows) { return; }
  let n = f32(params.columns * WIDTH);
  var mu: array<f32, ROWS>;
  var scale: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    mu[r] = mean_saved[min(first + r, params.rows - 1u)];
    scale[r] = rstd_saved[min(first + r, params.rows - 1u)];
  }
  var sum_g: array<T, ROWS>;
  var sum_gx: array<T, ROWS>;
  for (var c = lane; c < params.columns; c += LANES) {
    let w = weight[c];
    for (var r = 0u; r < ROWS; r++) {
      let i = base_of(first, r) + c;
      let g = dy[i] * w;
      sum_g[r] += g;
      sum_gx[r] += g * ((x[i] - mu[r]) * scale[r]);
    }
  }
  var mean_g: array<f32, ROWS>;
  var mean_gx: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    mean_g[r] = row_sum(fold_sum(sum_g[r]), lane) / n;
    mean_gx[r] = row_sum(fold_sum(sum_gx[r]), lane) / n;
  }
  for (var c = lane; c < params.columns; c += LANES) {
    let w = weight[c];
    for (var r = 0u; r < ROWS; r++) {
      let i = base_of(first, r) + c;
      let xhat = (x[i] - mu[r]) * scale[r];
      dx[i] = scale[r] * (dy[i] * w - mean_g[r] - xhat * mean_gx[r]);
    }
  }
}

// Parts of dweight = Σ dy xhat and dbias = Σ dy: each of `parts` adds up `block` rows. Thread: COLUMNS columns of one part,
// which share the loads of mean and rstd, as many columns apart as there are threads to a part.
const COLUMNS: u32 = 1u;

@compute @workgroup_size(64)
fn backward_weight(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  let threads = (params.columns + COLUMNS - 1u) / COLUMNS;
  if (i >= params.parts * threads) { return; }
  let first = i % threads;
  let part = i / threads;
  var dw: array<T, COLUMNS>;
  var db: array<T, COLUMNS>;
  for (var r = part * params.block; r < min((part + 1u) * params.block, params.rows); r++) {
    let mu = mean_saved[r];
    let scale = rstd_saved[r];
    for (var k = 0u; k < COLUMNS; k++) {
      let at = r * params.columns + min(first + k * threads, params.columns - 1u);
      let g = dy[at];
      db[k] += g;
      dw[k] += g * ((x[at] - mu) * scale);
    }
  }
  for (var k = 0u; k < COLUMNS; k++) {
    let c = first + k * threads;
    if (c < params.columns) {
      dweight[part * params.columns + c] = dw[k];
      dbias[part * params.columns + c] = db[k];
    }
  }
}
