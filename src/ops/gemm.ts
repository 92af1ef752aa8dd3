import { type Gpu, type GpuArray, isHalf } from "../array/index.ts";
import { grid1d, type KernelSpec, type ScratchTexture } from "../gpu/index.ts";
import { activate, activationCode } from "./activation.ts";
import { castArray } from "./cast.ts";
import { contract } from "./contraction.ts";
import {
  type Choice,
  choiceOf,
  type Fours,
  foursOf,
  type MatrixTiles,
  PANELS,
  type Tile,
  type Variant,
} from "./gemm-forms.ts";
import { packed } from "./gemm-panels.ts";
import { type Product, type Strides, stridesOf } from "./product.ts";
import { formOf, tellOfProduct } from "./product-forms.ts";
import { contractionOf, productOf } from "./product-pieces.ts";
import { cutOf, sumInParts } from "./split-sums.ts";
import { gemmLoads, storedAs } from "./stored.ts";

export type { Layout, Product } from "./product.ts";

/** What is done with a result: the library of shaders/lib that stores it. */
type Store = "gemm_store" | "gemm_store_activated" | "gemm_store_added";

const NO_FOURS: Fours = { loads: false, stores: false };

const kernels = new Map<string, KernelSpec>();

function kernelOf(variant: Variant, store: Store): KernelSpec {
  const {
    shader,
    entry,
    lanes = 0,
    fours = NO_FOURS,
    typeOfB = "f32",
    isTall = false,
    tile,
    matrices,
  } = variant;
  const key = `${shader}.${entry} ${store} ${lanes} ${fours.loads} ${fours.stores} ${typeOfB} ${isTall} ${Object.values(tile ?? {})} ${Object.values(matrices ?? {})}`;
  let kernel = kernels.get(key);
  if (!kernel) {
    const uses: Record<string, string> = {};
    const constants: Record<string, string> = {};
    if (store !== "gemm_store") uses["lib/gemm_store"] = `lib/${store}`;
    const loads = gemmLoads(typeOfB, fours.loads);
    Object.assign(uses, loads.uses);
    if (!fours.stores) uses["lib/gemm_put_fours"] = "lib/gemm_put_ones";
    if (lanes > 0 && shader !== "matmul_subgroup4") constants.LANES = `${lanes}u`;
    if (isTall) constants.IS_TALL = "true";
    if (tile) Object.assign(constants, tileConstants(tile));
    if (lanes > 0 && shader === "matmul_vector") {
      uses["lib/row_workgroup"] = "lib/row_subgroup";
      uses["lib/lanes_workgroup"] = "lib/lanes_subgroup";
    }
    if (matrices) {
      const parts = matrixParts(matrices);
      Object.assign(uses, parts.uses);
      Object.assign(constants, parts.constants);
    }
    if (shader !== "matmul") Object.assign(constants, loads.constants);
    else {
      const halves = storedAs("b", typeOfB, 1);
      if (halves) Object.assign(constants, { stored_b: halves.stored, load_b: halves.at("i") });
    }
    kernel = { shader, entry, uses, constants };
    kernels.set(key, kernel);
  }
  return kernel;
}

/** What specialises shaders/matmul_tiled.wgsl. */
function tileConstants({ rows, columns, depth, groups }: Tile): Record<string, string> {
  return { ROWS: `${rows}u`, COLUMNS: `${columns}u`, DEPTH: `${depth}u`, GROUPS: `${groups}u` };
}

/** What specialises shaders/matmul_matrix.wgsl. */
export function matrixParts(tiles: MatrixTiles): Required<Pick<KernelSpec, "uses" | "constants">> {
  const { rows, columns, step, subgroup, depth, tile, alongK } = tiles;
  const sizes = { ROWS: rows, COLUMNS: columns, STEP: step, SUBGROUP: subgroup, DEPTH: depth, TILE: tile };
  const constants: Record<string, string> = { IS_ALONG_K: String(alongK) };
  for (const [name, size] of Object.entries(sizes)) constants[name] = `${size}u`;
  if (tiles.isEmulated) return { uses: { "lib/matrix": "lib/matrix_emulated" }, constants };
  constants.Left = `subgroup_matrix_left<f16, ${step}, ${rows}>`;
  constants.Right = `subgroup_matrix_right<f16, ${columns}, ${step}>`;
  constants.Sum = `subgroup_matrix_result<f32, ${columns}, ${rows}>`;
  const order = alongK ? "col_major" : "row_major";
  constants.load_right = `subgroupMatrixLoad<Right, ${order}>(&tile_b, at, ROW_B)`;
  return { uses: {}, constants };
}

/** The kernel of a product: of the form that was chosen for its like, else of the fixed table's. */
function choose(gpu: Gpu, p: Product, strides: Strides): Choice {
  const fours = foursOf(p, strides);
  return choiceOf(gpu, p, formOf(gpu, p, fours), fours);
}

function storeOf({ activation, accumulate }: Product): Store {
  if (activation) return "gemm_store_activated";
  return accumulate ? "gemm_store_added" : "gemm_store";
}

/** Products of one dispatch: the largest grid in z. */
const MOST_PRODUCTS = 65_535;

/**
 * Records matrix products: one dispatch, or more for a batch beyond 65,535, and for arrays of several chunks, whose
 * products are recorded in pieces.
 */
export function gemm(gpu: Gpu, product: Product): void {
  // Kernels read halves of b alone: frozen weights are on that side.
  const p = isHalf(product.a.dtype) ? { ...product, a: castArray(gpu, product.a, "f32") } : product;
  const { M, N, batch = 1 } = p;
  if (M === 0 || N === 0 || batch === 0) return;
  const strides = stridesOf(p);
  if (isBound(p.a) && isBound(p.b) && isBound(p.c) && isBound(p.bias) && isBound(p.route)) {
    const choice = choose(gpu, p, strides);
    const cut = cutOf(gpu, p, Math.ceil(M / choice.rows) * Math.ceil(N / choice.columns) * batch);
    if (cut) sumInParts(gpu, p, cut, (part) => recordWhole(gpu, part));
    else recordWhole(gpu, p, strides, choice);
  } else if (p.activation) {
    // Pieces may be terms of a sum: the activation comes after the last one.
    const z = p.z ?? gpu.like(p.c);
    gemm(gpu, { ...p, c: z, z: null, activation: undefined });
    activate(gpu, z, p.activation, p.c);
  } else {
    // Pieces take the kernel of the whole: it decides the order of the sums.
    const choice = choose(gpu, p, strides);
    tellOfProduct(gpu, p, strides);
    contract(gpu, contractionOf(p, strides), (piece) => {
      const part = productOf(p, piece);
      recordProduct(gpu, part, stridesOf(part), choice);
    });
  }
}

function isBound(array: GpuArray | null | undefined): boolean {
  return array?.isInOneChunk !== false;
}

/** Records a product with the kernel that was chosen for it. */
function recordWhole(gpu: Gpu, p: Product, strides = stridesOf(p), choice = choose(gpu, p, strides)): void {
  tellOfProduct(gpu, p, strides);
  recordProduct(gpu, p, strides, choice);
}

/** Records products whose arrays can be bound. */
function recordProduct(gpu: Gpu, p: Product, strides: Strides, choice: Choice): void {
  if (choice.variant.shader !== PANELS) {
    recordDispatches(gpu, p, strides, choice, { a: p.a, b: p.b });
    return;
  }
  for (const { product, strides: own, left, right } of packed(gpu, p, strides))
    recordDispatches(gpu, product, own, choice, { left, right });
}

type Operands = Readonly<Record<string, GpuArray | ScratchTexture>>;

function recordDispatches(
  gpu: Gpu,
  p: Product,
  strides: Strides,
  { variant, rows, columns }: Choice,
  operands: Operands,
): void {
  const { M, N, K, batch = 1 } = p;
  const arrays: Record<string, GpuArray | ScratchTexture | null> = {
    ...operands,
    bias: p.bias ?? null,
    route: p.route ?? null,
  };
  const storesFour = variant.fours?.stores === true;
  arrays[storesFour ? "c4" : "c"] = p.c;
  // A dummy that nothing else in the dispatch is bound to: it is bound for writing.
  if (p.activation) arrays[storesFour ? "kept4" : "kept"] = p.z ?? gpu.empty([4]);
  const params = {
    M,
    N,
    K,
    ...strides,
    stride_bias: p.routing === "pick" ? (p.biasStride ?? N) : 0,
    inner: p.inner ?? 1,
    share: p.share ?? 1,
    sums: p.routing === "collect" ? (p.route?.size ?? 0) : (p.sums ?? 1),
    has_bias: p.bias ? 1 : 0,
    routed: p.routing === "pick" ? 1 : p.routing === "collect" ? 2 : 0,
    activation: activationCode(p.activation),
    keeps_z: p.z ? 1 : 0,
    first: 0,
    scale: p.scale ?? 1,
  };
  const kernel = kernelOf(variant, storeOf(p));
  // Each group of rows is in the sum of one expert, or in its parts.
  const terms = p.routing === "collect" ? params.inner * params.sums : batch * params.sums;
  const [x, y] = grid1d(Math.ceil(N / columns) * Math.ceil(M / rows));
  for (let first = 0; first < batch; first += MOST_PRODUCTS) {
    const count = Math.min(MOST_PRODUCTS, batch - first);
    const work = { flops: 2 * M * N * K * terms * (count / batch) };
    gpu.run(kernel, arrays, first === 0 ? params : { ...params, first }, [x, y, count], work);
  }
}
