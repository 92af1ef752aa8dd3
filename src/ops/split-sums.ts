import type { Gpu } from "../array/index.ts";
import type { Product } from "./product.ts";
import { sumMiddle } from "./reduce.ts";

/**
 * Products of few results and long sums, such as the weight gradients of low ranks (8 x 1024 results, each a sum over all
 * tokens): on a GPU a handful of workgroups would be busy. The sum is cut into parts, which are products of a larger
 * batch with the kernels that there are, and the parts are added up in their order: two runs give the same bits.
 */

/** Workgroups that a large GPU is busy with, and as many as are enough without cutting. */
const BUSY = 256;
const ENOUGH = 64;
/** With a rest, what one pass of `sumMiddle` adds up. */
const MOST_PARTS = 63;
/** Terms of a part at least, over all products that it sums. Below twice as many nothing is cut. */
const SHORTEST = 256;
/** Parts begin at multiples of this: kernels go along the sum in such steps, or shorter ones. */
const STEP = 32;
/** Partial results may take so much memory. */
const MOST_BYTES = 64 * 2 ** 20;

/** A sum of `parts` equal parts, and `rest` terms behind them. */
export interface Cut {
  readonly parts: number;
  readonly length: number;
  readonly rest: number;
}

/** How the sum of a product is cut; null where it is not. `tiles`: workgroups that the product has as it is. */
export function cutOf(gpu: Gpu, p: Product, tiles: number): Cut | null {
  const { M, N, K, batch = 1, sums = 1 } = p;
  if (gpu.isSoftware || !isPlain(p)) return null;
  const groups = p.routing === "collect" ? (p.route?.size ?? 0) : sums;
  // Experts that no group is routed to have nothing to do.
  const busy = p.routing === "collect" ? (tiles / batch) * Math.min(batch, groups) : tiles;
  if (busy >= ENOUGH) return null;
  const most = Math.min(
    MOST_PARTS,
    Math.ceil(BUSY / busy),
    Math.floor((K * groups) / SHORTEST),
    Math.floor(K / STEP),
    Math.floor(Math.min(MOST_BYTES, gpu.maxBindingBytes) / (8 * M * N * batch)),
  );
  if (most < 2) return null;
  const length = lengthOf(K, most);
  const parts = Math.floor(K / length);
  return { parts, length, rest: K - parts * length };
}

/** Terms of a part, of about `most` parts: up to twice as many where that leaves no rest. */
function lengthOf(K: number, most: number): number {
  let shortest = Math.floor(K / most / STEP) * STEP;
  if (K / shortest > MOST_PARTS) shortest += STEP;
  for (let length = shortest; length <= Math.min(2 * shortest, K / 2); length += STEP)
    if (K % length === 0) return length;
  return shortest;
}

/** Whether results lie one after the other and are nothing but the sums. */
function isPlain({
  M,
  N,
  bias,
  activation,
  accumulate,
  inner = 1,
  share = 1,
  routing,
  layoutC = {},
}: Product): boolean {
  const { start = 0, row = N, stride = M * N } = layoutC;
  const isWhole = start === 0 && row === N && stride === M * N;
  return isWhole && !bias && !activation && !accumulate && inner * share === 1 && routing !== "pick";
}

/**
 * The product in parts: `record` is called with the product of all equal parts, results [parts, batch, M, N], and with
 * that of the rest; then c is their sum.
 */
export function sumInParts(gpu: Gpu, p: Product, cut: Cut, record: (part: Product) => void): void {
  const { M, N, K, batch = 1 } = p;
  const { parts, length, rest } = cut;
  const results = batch * M * N;
  const all = parts + (rest > 0 ? 1 : 0);
  const partial = gpu.empty([all, batch, M, N]);
  // Rows keep the distance that they have in the whole.
  const rowA = p.layoutA?.row ?? (p.transposeA ? M : K);
  const rowB = p.layoutB?.row ?? (p.transposeB ? K : N);
  const [stepA, stepB] = [p.transposeA ? rowA : 1, p.transposeB ? 1 : rowB];
  const [layoutA, layoutB] = [
    { ...p.layoutA, row: rowA },
    { ...p.layoutB, row: rowB },
  ];
  const own = { ...p, c: partial };
  record({
    ...own,
    K: length,
    batch: batch * parts,
    inner: parts,
    layoutA: { ...layoutA, inner: length * stepA },
    layoutB: { ...layoutB, inner: length * stepB },
    layoutC: { inner: results },
  });
  if (rest > 0) {
    const from = parts * length;
    record({
      ...own,
      K: rest,
      layoutA: { ...layoutA, start: (layoutA.start ?? 0) + from * stepA },
      layoutB: { ...layoutB, start: (layoutB.start ?? 0) + from * stepB },
      layoutC: { start: parts * results },
    });
  }
  sumMiddle(gpu, partial, 1, all, results, { into: p.c });
}
