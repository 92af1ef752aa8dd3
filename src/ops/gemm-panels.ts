import type { DType, Gpu, GpuArray } from "../array/index.ts";
import {
  grid1d,
  type KernelSpec,
  SCRATCH_ROW_BYTES,
  SCRATCH_WIDTH,
  type ScratchTexture,
} from "../gpu/index.ts";
import type { Product, Strides } from "./product.ts";
import { gemmLoads } from "./stored.ts";

/** Rows and columns of a tile of shaders/matmul_panels.wgsl. */
export const PANEL = 32;
/** Lanes of the subgroups that it is written for. */
export const PANEL_LANES = 8;

/** Fewer multiplications than that are not worth the packing. */
const LEAST_WORK = 2 ** 25;
const LEAST_SIDE = 64;

/** Texels of one operand, 16 MiB: larger ones are packed in slices. */
const MOST_TEXELS = 2 ** 20;

type PackTraits = Pick<Gpu, "isSoftware" | "subgroupSize" | "maxBindingBytes">;

/** Rows of an operand that are packed at once: whole panels. */
function mostRows(gpu: Pick<Gpu, "maxBindingBytes">, K: number): number {
  const rows = Math.floor(gpu.maxBindingBytes / SCRATCH_ROW_BYTES);
  const texels = Math.min(MOST_TEXELS, rows * SCRATCH_WIDTH);
  return Math.floor(texels / Math.ceil(K / 4) / PANEL) * PANEL;
}

/** A part of a product whose operands have been packed. */
export interface Packed {
  readonly product: Product;
  readonly strides: Strides;
  readonly left: ScratchTexture;
  readonly right: ScratchTexture;
}

/** Whether the operands of a product can be packed: there is one of each, and the subgroups are those of the kernel. */
export function canPack(gpu: PackTraits, { K, batch = 1, routing, sums = 1 }: Product): boolean {
  return (
    gpu.isSoftware &&
    gpu.subgroupSize === PANEL_LANES &&
    batch === 1 &&
    routing === undefined &&
    sums === 1 &&
    K > 0 &&
    mostRows(gpu, K) >= LEAST_SIDE
  );
}

/** Whether a product gains by packing: each element of an operand is read many times. */
export function isWorthPanels(gpu: PackTraits, p: Product): boolean {
  const { M, N, K } = p;
  return canPack(gpu, p) && Math.min(M, N) >= LEAST_SIDE && M * N * K >= LEAST_WORK;
}

/** Whether a product wins back what compiling the kernel of two panels takes. */
export function isWorthTwoPanels({ M, N, K }: Product): boolean {
  return M >= 4 * PANEL && M * N * K >= 2 ** 26;
}

/**
 * Packs the operands of a product into the device's scratch textures, and hands out each part as soon as it lies there:
 * the next one overwrites it. One part, unless an operand is too large for a texture.
 */
export function* packed(gpu: Gpu, p: Product, s: Strides): Iterable<Packed> {
  const most = mostRows(gpu, p.K);
  for (let m = 0; m < p.M; m += most) {
    const M = Math.min(most, p.M - m);
    const start = s.start_a + m * s.a_row;
    const rows = { array: p.a, count: M, K: p.K, start, next: s.a_row, next_k: s.a_column };
    const left = pack(gpu, 0, rows);
    yield* pinned(gpu, left, besideLeft(gpu, { ...p, M }, { ...s, start_c: s.start_c + m * s.c_row }, left));
  }
}

/** The parts of a product whose rows of a are packed. */
function* besideLeft(gpu: Gpu, p: Product, s: Strides, left: ScratchTexture): Iterable<Packed> {
  const most = mostRows(gpu, p.K);
  // Columns end where a part of the bias can be bound.
  const columns = p.N <= most ? p.N : Math.floor(most / 64) * 64;
  for (let n = 0; n < p.N; n += columns) {
    const N = Math.min(columns, p.N - n);
    const start = s.start_b + n * s.b_column;
    const side = { array: p.b, count: N, K: p.K, start, next: s.b_column, next_k: s.b_row };
    const right = pack(gpu, 1, side);
    const bias = p.bias && N < p.N ? gpu.view(p.bias, [N], p.bias.offset + n) : p.bias;
    const product = { ...p, N, bias: bias ?? null };
    yield* pinned(gpu, right, [{ product, strides: { ...s, start_c: s.start_c + n }, left, right }]);
  }
}

/** Keeps a texture while what lies in it is used: whoever needs memory meanwhile takes what is not pinned. */
function* pinned(gpu: Gpu, texture: ScratchTexture, parts: Iterable<Packed>): Iterable<Packed> {
  const { pool } = gpu.device;
  pool.pin(texture);
  try {
    yield* parts;
  } finally {
    pool.unpin(texture);
  }
}

/** Rows of a, or columns of b: `next` floats from one to the next, `next_k` along K. */
interface Side {
  readonly array: GpuArray;
  readonly count: number;
  readonly K: number;
  readonly start: number;
  readonly next: number;
  readonly next_k: number;
}

function pack(gpu: Gpu, slot: 0 | 1, { array, count, K, start, next, next_k }: Side): ScratchTexture {
  const panels = Math.ceil(count / PANEL);
  const deep = Math.ceil(K / 4);
  const items = panels * 8 * deep;
  const texels = panels * PANEL * deep;
  const rows = Math.ceil(texels / SCRATCH_WIDTH);
  const ordered = gpu.empty([rows, 4 * SCRATCH_WIDTH]);
  const alongK = next_k === 1;
  const fours = [start, alongK ? next : next_k, alongK ? K : 0].every((n) => n % 4 === 0);
  const kernel = packKernel({ isLeft: slot === 0, alongK, fours, dtype: array.dtype });
  gpu.run(
    kernel,
    { b: array, packed: ordered },
    { count, K, start, next, next_k },
    grid1d(Math.ceil(items / 64)),
  );
  const target = gpu.device.scratch(slot, texels);
  gpu.copyToScratch(ordered, target);
  ordered.release();
  return target;
}

interface PackVariant {
  readonly isLeft: boolean;
  readonly alongK: boolean;
  readonly fours: boolean;
  readonly dtype: DType;
}

const kernels = new Map<string, KernelSpec>();

function packKernel({ isLeft, alongK, fours, dtype }: PackVariant): KernelSpec {
  const key = `${isLeft} ${alongK} ${fours} ${dtype}`;
  let kernel = kernels.get(key);
  if (!kernel) {
    const constants = { IS_LEFT: String(isLeft), IS_ALONG_K: String(alongK) };
    const loads = gemmLoads(dtype, fours);
    const { uses } = loads;
    kernel = { shader: "matmul_pack", entry: "pack", uses, constants: { ...constants, ...loads.constants } };
    kernels.set(key, kernel);
  }
  return kernel;
}
