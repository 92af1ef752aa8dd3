import type { GpuArray } from "../array/index.ts";
import { type Grid, grid1d, type KernelSpec } from "../gpu/index.ts";
import type { AttentionParams, AttentionSizes } from "./attention-problem.ts";

/** How the tiles of shaders/attention.wgsl and attention_backward.wgsl lie over an attention. */

/** Rows and columns of a tile of scores: see shaders/lib/attention_tile.wgsl. */
const ROWS = 64;
const COLUMNS = 32;
/** Channels that a workgroup works on at once. */
const SPAN = 32;
/** Spans of results of a workgroup: with more, gradients of keys and values no longer fit the registers of a thread. */
const MOST_SPANS = 4;

/** The spans that a workgroup makes of a head: all of it, or of a larger one an equal part, with the scores made for each. */
function spansOf(headSize: number): number {
  const slices = Math.ceil(headSize / (MOST_SPANS * SPAN));
  return Math.ceil(headSize / slices / SPAN);
}

type Entry = "forward" | "backward_sums" | "backward_q" | "backward_kv" | "backward_bias";
const kernels = new Map<string, KernelSpec>();

/** The kernel of a head size: one for each number of spans, and for sizes that are multiples of four or not. */
export function tileKernel(entry: Entry, headSize: number): KernelSpec {
  // Its kernel makes no results that have channels.
  const spans = entry === "backward_bias" || entry === "backward_sums" ? 1 : spansOf(headSize);
  const inFours = headSize % 4 === 0;
  const key = `${entry} ${spans} ${inFours}`;
  let spec = kernels.get(key);
  if (!spec) {
    spec = {
      shader: entry === "forward" ? "attention" : "attention_backward",
      entry,
      constants: { SPANS: `${spans}u` },
      uses: inFours ? {} : { "lib/heads_fours": "lib/heads_ones" },
    };
    kernels.set(key, spec);
  }
  return spec;
}

/** A workgroup for each tile of `rows` rows of `heads` heads, and for each slice of the channels. */
export function tileGrid(batch: number, heads: number, rows: number, headSize: number): Grid {
  return grid1d(batch * heads * Math.ceil(rows / ROWS) * Math.ceil(headSize / (spansOf(headSize) * SPAN)));
}

/** Workgroups that a large GPU is busy with. */
const ENOUGH = 256;
/** Most bytes of partial sums of a bias. */
const MOST_BYTES = 32 * 2 ** 20;

/** In how many parts the gradient of a bias is summed over what it is broadcast to, and the grid of all parts. */
export function biasTiles(
  bias: GpuArray,
  sizes: AttentionSizes,
  params: AttentionParams,
): { readonly parts: number; readonly grid: Grid } {
  const part = (name: string, n: number) => (params[name] === 0 ? 1 : n);
  const batches = part("bias_batch", sizes.batch);
  const heads = part("bias_head", sizes.heads);
  const down = Math.ceil(part("bias_query", sizes.queries) / ROWS);
  const across = Math.ceil(part("bias_key", sizes.keys) / COLUMNS);
  const tiles = batches * heads * down * across;
  const terms = (sizes.batch / batches) * (sizes.heads / heads);
  const most = Math.min(terms, Math.floor(MOST_BYTES / bias.bytes), Math.ceil(ENOUGH / tiles));
  const parts = Math.max(1, most);
  return { parts, grid: grid1d(parts * tiles) };
}
