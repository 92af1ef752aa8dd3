import type { DType, Gpu } from "../array/index.ts";
import type { MatrixSizes } from "../gpu/index.ts";
import { canPack, isWorthPanels, isWorthTwoPanels, PANEL } from "./gemm-panels.ts";
import type { Product, Strides } from "./product.ts";

/** How products are computed. Each adds up its terms in an order of its own, so results differ in their last bits. */
const FORMS = [
  "vector",
  "matrix-64",
  "matrix-128",
  "tiled-64",
  "tiled-128",
  "tiled-narrow",
  "panels",
  "panels-tall",
  "subgroup",
  "subgroup-tall",
  "plain",
] as const;
export type Form = (typeof FORMS)[number];

export function formNames(): readonly Form[] {
  return FORMS;
}

/** What forms are chosen by beside the product. */
export type Traits = Pick<Gpu, "isSoftware" | "subgroupSize" | "matrices" | "maxBindingBytes">;

export interface Fours {
  readonly loads: boolean;
  readonly stores: boolean;
}

/** What one kernel is made of but for its store; see `kernelOf`. */
export interface Variant {
  readonly shader: string;
  readonly entry: string;
  /** Lanes of its subgroups; 0: of no matter. */
  readonly lanes?: number;
  /** Loads, and stores, four floats at a time. */
  readonly fours?: Fours;
  /** Element type of b: halves are read as they are stored. */
  readonly typeOfB?: DType;
  /** Twice the rows in a tile: for large products. */
  readonly isTall?: boolean;
  readonly tile?: Tile;
  readonly matrices?: MatrixTiles;
}

/** What a workgroup of shaders/matmul_tiled.wgsl makes: ROWS, COLUMNS, DEPTH and GROUPS there. */
export interface Tile {
  readonly rows: number;
  readonly columns: number;
  /** Terms of the sum that are loaded at once. */
  readonly depth: number;
  /** Groups of four rows, and of four columns, of a thread. */
  readonly groups: 1 | 2;
}

/** Tiles of matrices that subgroups multiply; `alongK`: columns of b lie along K. */
export interface MatrixTiles extends MatrixSizes {
  readonly tile: 64 | 128;
  readonly alongK: boolean;
}

/** The kernel of a product, and rows and columns of the tiles that its workgroups take. */
export interface Choice {
  readonly variant: Variant;
  readonly rows: number;
  readonly columns: number;
}

/** Its operands are packed into textures first. */
export const PANELS = "matmul_panels";

/** Whether vec4 may be loaded and stored along the contiguous dimensions: what they start at is a multiple of four. */
export function foursOf(p: Product, s: Strides): Fours {
  const inFours = (...all: number[]): boolean => all.every((n) => n % 4 === 0);
  const rowA = p.transposeA ? s.a_column : s.a_row;
  const rowB = p.transposeB ? s.b_column : s.b_row;
  // Where the sum is over rows of both, each is a whole one.
  const K = p.transposeA ? 0 : p.K;
  return {
    loads:
      inFours(K, rowA, s.start_a, s.stride_a, s.inner_a, s.sum_a) &&
      inFours(rowB, s.start_b, s.stride_b, s.inner_b, s.sum_b),
    stores: inFours(p.N, s.c_row, s.start_c, s.stride_c, s.inner_c),
  };
}

/**
 * The form of the fixed table: by adapter class, what is transposed, whether there is one row, and sizes. Measured on a
 * few adapters; for others see `tuneProducts`.
 */
export function tableForm(gpu: Traits, p: Product): Form {
  if (canCompute(gpu, p, "vector")) return "vector";
  const tile = tileOf(p);
  if (canCompute(gpu, p, `matrix-${tile}`)) return `matrix-${tile}`;
  if (!gpu.isSoftware) return Math.min(p.M, p.N) <= NARROW ? "tiled-narrow" : `tiled-${tile}`;
  if (isWorthPanels(gpu, p)) return isWorthTwoPanels(p) ? "panels-tall" : "panels";
  if (canCompute(gpu, p, "subgroup-tall") && isWorthTall(p)) return "subgroup-tall";
  return canCompute(gpu, p, "subgroup") ? "subgroup" : "plain";
}

/** Whether a form gives the results of a product on a device: no more is lost in one than in the fixed table's. */
export function canCompute(gpu: Traits, p: Product, form: Form): boolean {
  switch (form) {
    case "vector":
      return p.M === 1 && !p.transposeA && p.transposeB === true && !isSum(p);
    case "matrix-64":
    case "matrix-128":
      return hasMatrices(gpu, p);
    case "tiled-64":
    case "tiled-128":
    case "tiled-narrow":
    case "plain":
      return true;
    case "panels":
    case "panels-tall":
      return canPack(gpu, p);
    case "subgroup":
      return hasSubgroups(gpu, p);
    case "subgroup-tall":
      return hasSubgroups(gpu, p) && gpu.subgroupSize === 8 && !p.transposeA;
    default:
      return form satisfies never;
  }
}

/**
 * The forms that may be the fastest for a product: all that can compute it. But tiles of workgroup memory, whose barriers
 * cost software adapters ten times what they save, are not tried where these have another kernel than the plain one, and
 * narrow ones not where they would lie side by side many times over.
 */
export function formsToTry(gpu: Traits, p: Product): Form[] {
  const hasOwn = gpu.isSoftware && (hasSubgroups(gpu, p) || canPack(gpu, p));
  const isWide = Math.min(p.M, p.N) > 2 * NARROW;
  const isSlow = (form: Form) => (hasOwn && form.startsWith("tiled")) || (isWide && form === "tiled-narrow");
  return FORMS.filter((form) => canCompute(gpu, p, form) && !isSlow(form));
}

/** The kernel of a form for a product that it can compute. */
export function choiceOf(gpu: Traits, p: Product, form: Form, fours: Fours): Choice {
  const typeOfB = p.b.dtype;
  switch (form) {
    case "vector": {
      const lanes = gpu.isSoftware ? gpu.subgroupSize : 0;
      return {
        variant: { shader: "matmul_vector", entry: "nt", lanes, fours, typeOfB },
        rows: 1,
        columns: 4,
      };
    }
    case "matrix-64":
    case "matrix-128": {
      const tile = form === "matrix-64" ? 64 : 128;
      const matrices = { ...(gpu.matrices as MatrixSizes), tile, alongK: p.transposeB === true } as const; // see canCompute
      const variant = { shader: "matmul_matrix", entry: "matrix", fours, typeOfB, matrices };
      return { variant, rows: tile, columns: tile };
    }
    case "tiled-64":
      return tiledChoice(SMALL, fours, typeOfB);
    case "tiled-128":
      return tiledChoice(LARGE, fours, typeOfB);
    case "tiled-narrow":
      return tiledChoice(p.N <= Math.max(p.M, NARROW) ? TALL : WIDE, fours, typeOfB);
    case "panels":
    case "panels-tall": {
      const isTall = form === "panels-tall";
      const stores = { loads: true, stores: fours.stores };
      const variant = { shader: PANELS, entry: "panels", fours: stores, isTall };
      return { variant, rows: isTall ? 2 * PANEL : PANEL, columns: PANEL };
    }
    case "subgroup":
    case "subgroup-tall":
      return subgroupChoice(gpu, p, form === "subgroup-tall", fours);
    case "plain":
      return { variant: { shader: "matmul", entry: "plain", typeOfB }, rows: 32, columns: 32 };
    default:
      return form satisfies never;
  }
}

const LARGE: Tile = { rows: 128, columns: 128, depth: 16, groups: 2 };
const SMALL: Tile = { rows: 64, columns: 64, depth: 16, groups: 2 };
/**
 * For low ranks, where a square tile would multiply mostly zeros. As many threads as the small one, each with a quarter
 * of its results; what they wait for is memory, so a step takes whole lines of 128 bytes of rows that lie along K.
 */
const TALL: Tile = { rows: 64, columns: 16, depth: 32, groups: 1 };
const WIDE: Tile = { ...TALL, rows: 16, columns: 64 };
/** Of so few rows or columns two narrow tiles have less to multiply than a square one. */
const NARROW = 32;

function tiledChoice(tile: Tile, fours: Fours, typeOfB: DType): Choice {
  const variant = { shader: "matmul_tiled", entry: "tiled", fours, typeOfB, tile };
  return { variant, rows: tile.rows, columns: tile.columns };
}

function subgroupChoice(gpu: Traits, p: Product, isTall: boolean, fours: Fours): Choice {
  const lanes = gpu.subgroupSize;
  const entry = p.transposeA ? "tn" : p.transposeB ? "nt" : "nn";
  const shader = lanes === 4 ? "matmul_subgroup4" : "matmul_subgroup";
  const short = lanes === 4 && entry !== "tn" ? 8 : 16;
  const variant = { shader, entry, lanes, fours, typeOfB: p.b.dtype, isTall };
  return { variant, rows: isTall ? 2 * short : short, columns: 4 * lanes };
}

/** Whether each result is the sum of several products. */
function isSum({ sums = 1, routing }: Product): boolean {
  return sums > 1 || routing === "collect";
}

/** Whether there is a barrier-free kernel of subgroups for the operands. */
function hasSubgroups({ isSoftware, subgroupSize }: Traits, p: Product): boolean {
  if (!isSoftware || (subgroupSize !== 4 && subgroupSize !== 8)) return false;
  return p.transposeA ? !p.transposeB : !isSum(p);
}

/** They round `a` to f16: only for what they are good for. Below 32 a tile of them is mostly empty. */
function hasMatrices({ matrices }: Traits, p: Product): boolean {
  const fits = matrices !== null && p.b.dtype === "f16" && !p.transposeA && !isSum(p);
  return fits && Math.min(p.M, p.N, p.K) >= 32;
}

/** Large tiles load less for each result; small ones are more in number, so that all of a GPU's processors have one. */
function tileOf({ M, N, batch = 1 }: Product): 64 | 128 {
  if (Math.min(M, N) <= 64) return 64;
  const large = Math.ceil(M / 128) * Math.ceil(N / 128) * batch;
  return large >= MANY_TILES ? 128 : 64;
}
const MANY_TILES = 128;

/** Products from so many multiplications on win back what compiling a taller kernel takes. */
function isWorthTall({ M, N, K, batch = 1 }: Product): boolean {
  return M >= 32 && batch * M * N * K >= 2 ** 22;
}
