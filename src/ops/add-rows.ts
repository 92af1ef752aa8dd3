import type { Gpu, GpuArray } from "../array/index.ts";
import { groupByKey, type Keys, PAIR_BYTES } from "./group.ts";
import { columnKernel } from "./kernels.ts";
import { eachRange, labelOf, threads } from "./ranges.ts";

const partialKernel = columnKernel("add_rows", "partial");
const finishKernel = columnKernel("add_rows", "finish");

/** Pairs that one thread adds up: BLOCK of shaders/add_rows.wgsl. */
const BLOCK = 64;
const NOTHING: ReadonlySet<string> = new Set();
const WRITTEN: ReadonlySet<string> = new Set(["target"]);

/**
 * target[o, key(i), c] += values[o, i, c], rows of equal keys added in the order of i: values [outer, n, C],
 * target [outer, bound, C], where `bound` is that of the keys. No atomics: two runs give the same bits.
 * Costs a sort of the indices (group.ts), and reads values once.
 */
export function addRows(gpu: Gpu, values: GpuArray, keys: Keys, target: GpuArray, outer = 1): void {
  const n = keys.indices.size;
  if (values.size === 0 || target.size === 0) return;
  const width = values.size / n / outer;
  const isWhole = [values, target, keys.indices].every((array) => array.isInOneChunk);
  if (outer === 1 || (isWhole && n <= mostPairs(gpu))) {
    addInRanges(gpu, values, keys, target, { outer, width });
    return;
  }
  for (let o = 0; o < outer; o++) {
    gpu.scope(
      () => {
        const of = (array: GpuArray, rows: number): GpuArray =>
          gpu.view(array, [rows, width], array.offset + o * rows * width);
        addInRanges(gpu, of(values, n), keys, of(target, keys.bound), { outer: 1, width });
      },
      () => [],
    );
  }
}

/** The pairs of a range of positions are made for it, and have to be bound too. */
function mostPairs(gpu: Gpu): number {
  return Math.floor(gpu.maxBindingBytes / PAIR_BYTES);
}

interface Sizes {
  readonly outer: number;
  /** Elements of a row. */
  readonly width: number;
}

/** Positions, and for each range of them the rows of the target, in ranges that can be bound. */
function addInRanges(
  gpu: Gpu,
  values: GpuArray,
  { indices, ...keys }: Keys,
  target: GpuArray,
  { outer, width }: Sizes,
): void {
  const label = labelOf(finishKernel(width).kernel);
  const positions = { rows: indices.size, arrays: { indices, values }, most: mostPairs(gpu) };
  eachRange(gpu, label, positions, NOTHING, (looked, start, n) => {
    const sorted = groupByKey(gpu, { ...keys, indices: looked.indices as GpuArray, start });
    const blocks = Math.ceil(n / BLOCK);
    const parts = gpu.empty([outer, blocks, width]);
    const { kernel: partial, columns } = partialKernel(width);
    const params = { n, bound: keys.bound, columns, outer, blocks };
    const arrays = { sorted, values: looked.values ?? null };
    const whole = { ...params, first: 0, rows: keys.bound };
    if (blocks > 1) gpu.run(partial, { ...arrays, parts }, whole, threads(outer * blocks * columns));
    const { kernel: finish } = finishKernel(width);
    eachRange(gpu, label, { rows: keys.bound, arrays: { target } }, WRITTEN, (written, first, rows) => {
      const bound = { ...arrays, parts_saved: parts, target_rows: written.target ?? null };
      gpu.run(finish, bound, { ...params, first, rows }, threads(outer * n * columns));
    });
  });
}
