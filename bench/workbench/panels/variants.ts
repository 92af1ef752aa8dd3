// WGSL of one product, c = a b with [M, K] x [K, N], in the forms that `compare.ts` times: what operands lie in, in which
// order, and how the sums are written. Sizes are multiples of 32; one subgroup of eight lanes for each tile.

export interface Form {
  /** What operands are read from. `sampled`: by textureLoad from a texture_2d. */
  readonly from: "buffer" | "texture" | "sampled";
  /** `rows`: as they are. `panels`: as shaders/matmul_pack.wgsl orders them. */
  readonly order: "rows" | "panels";
  /** Rows of a tile: 16 for each array of sums. */
  readonly rows: 16 | 32 | 64;
  /** All loads of a turn before its products, or those of each eight rows right before theirs. */
  readonly loads: "first" | "between";
  /** One array for all sums instead of one for every 16 rows. */
  readonly isOneArray?: boolean;
}

const TILE = 32;
const LANES = 8;

export function codeOf(form: Form): string {
  return `enable subgroups;
struct Params { M: u32, K: u32, N: u32 }
@group(0) @binding(0) var<uniform> params: Params;
${operand("a", 1, form)}
${operand("b", 2, form)}
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
const TILE = ${TILE}u;
const LANES = ${LANES}u;
const ROWS = ${form.rows}u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let deep = params.K / 4u;
  let row = group.y * ROWS;
${declarations(form)}
  for (var k = 0u; k < deep; k++) {
    let b0 = load_b(group.x, k, 0u, lane); let b1 = load_b(group.x, k, 1u, lane);
    let b2 = load_b(group.x, k, 2u, lane); let b3 = load_b(group.x, k, 3u, lane);
${products(form)}
  }
  let at = row * params.N / 4u + group.x * LANES + lane;
${stores(form)}
}
${loaders(form)}`;
}

function operand(name: string, binding: number, { from }: Form): string {
  const types = {
    buffer: `var<storage, read> ${name}: array<vec4f>`,
    texture: `var ${name}: texture_storage_2d<rgba32float, read>`,
    sampled: `var ${name}: texture_2d<f32>`,
  };
  return `@group(0) @binding(${binding}) ${types[from]};`;
}

/** Reads of texel `x` of row `y`; rows have `wide` texels. */
function loaders({ from, order }: Form): string {
  const read = (name: string, x: string, y: string, wide: string): string => {
    if (from === "buffer") return `${name}[(${y}) * (${wide}) + ${x}]`;
    return `textureLoad(${name}, vec2u(${x}, ${y})${from === "sampled" ? ", 0" : ""})`;
  };
  const a =
    order === "rows"
      ? read("a", "k", "row", "params.K / 4u")
      : read("a", "row % TILE", "row / TILE * (params.K / 4u) + k", "TILE");
  const b =
    order === "rows"
      ? read("b", "column * LANES + lane", "4u * k + j", "params.N / 4u")
      : read("b", "j * LANES + lane", "column * (params.K / 4u) + k", "TILE");
  return `fn load_a(row: u32, k: u32) -> vec4f { return ${a}; }
fn load_b(column: u32, k: u32, j: u32, lane: u32) -> vec4f { return ${b}; }`;
}

const eights = (rows: number): number[] => Array.from({ length: rows / LANES }, (_, i) => i);

function declarations({ rows, isOneArray = false }: Form): string {
  if (isOneArray) return "  var sum: array<vec4f, ROWS>;";
  return eights(rows / 2)
    .map((i) => `  var sum${i}: array<vec4f, 16>;`)
    .join("\n");
}

/** Where the sums of eight rows lie: an array and the first index. */
function placeOf(i: number, { isOneArray = false }: Form): readonly [array: string, first: number] {
  return isOneArray ? ["sum", LANES * i] : [`sum${i >> 1}`, LANES * (i % 2)];
}

function products(form: Form): string {
  const load = (i: number): string => `    let x${i} = load_a(row + ${LANES * i}u + lane, k);`;
  const multiply = (i: number): string => {
    const [array, first] = placeOf(i, form);
    const parts = ["x", "y", "z", "w"].map((part, j) => `subgroupShuffle(x${i}.${part}, r) * b${j}`);
    return `    for (var r = 0u; r < LANES; r++) { ${array}[${first}u + r] += ${parts.join(" + ")}; }`;
  };
  const all = eights(form.rows);
  const lines =
    form.loads === "first"
      ? [...all.map(load), ...all.map(multiply)]
      : all.flatMap((i) => [load(i), multiply(i)]);
  return lines.join("\n");
}

function stores(form: Form): string {
  return eights(form.rows)
    .map((i) => {
      const [array, first] = placeOf(i, form);
      return `  for (var r = 0u; r < LANES; r++) { c[at + (${LANES * i}u + r) * params.N / 4u] = ${array}[${first}u + r]; }`;
    })
    .join("\n");
}
