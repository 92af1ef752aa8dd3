import type { Gpu, GpuArray } from "../array/index.ts";
import { Tensor } from "../autograd/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { fill, rowKernel, runFlat, runRows, threads } from "../ops/index.ts";
import { Arena, type ArenaSegment, BLOCK } from "./arena.ts";

const partialKernel = rowKernel("gradient_norm", "partial");
const finishKernel = rowKernel("gradient_norm", "finish");
const clipValueKernel: KernelSpec = { shader: "clip_value", entry: "clip" };
const clipKernel: KernelSpec = { shader: "gradient_norm", entry: "clip" };
/** Elements that one workgroup of `partial` adds up. */
const PART = 4096;

/**
 * Scales all gradients by min(1, maxNorm / (norm + 1e-6)), norm over all of them together, and returns the norm
 * before. The decision is made on the GPU: nothing is read back.
 */
export function clipGradNorm(arena: Arena, maxNorm: number): Tensor {
  checkArena("clipGradNorm", arena);
  if (!(maxNorm > 0)) throw new ShapeError(`clipGradNorm: maxNorm is ${maxNorm}, expected more than 0`);
  const { gpu, segments } = arena;
  const params = { n: 0, parts: 0, limit: maxNorm };
  const norm = gpu.empty([]);
  gpu.scope(
    () => {
      const { sums, places } = partialSums(gpu, segments);
      for (const [i, { gradients, length }] of segments.entries()) {
        const parts = Math.ceil(length / PART);
        runRows(gpu, partialKernel(gpu, 4).kernel, {
          rows: parts,
          split: { gradient: gradients, sums: gpu.view(sums, [parts], places[i]) },
          lengths: { gradient: PART },
          params: (first, rows) => ({ ...params, n: Math.min(rows * PART, length - first * PART) / 4 }),
          count: "parts",
        });
      }
      gpu.run(
        finishKernel(gpu, 4).kernel,
        { sums_saved: sums, norm },
        { ...params, parts: sums.size },
        [1, 1, 1],
      );
      for (const { gradients } of segments)
        runFlat(gpu, clipKernel, { scaled: gradients }, { parts: 0, limit: maxNorm }, { norm_saved: norm });
    },
    () => [],
  );
  return new Tensor(gpu, norm);
}

/** Limits every gradient to -limit..limit, each for itself. NaN stays NaN. */
export function clipGradValue(arena: Arena, limit: number): void {
  checkArena("clipGradValue", arena);
  if (!(limit > 0 && Number.isFinite(limit)))
    throw new ShapeError(`clipGradValue: limit is ${limit}, expected more than 0`);
  for (const { gradients, length } of arena.segments) {
    runRows(arena.gpu, clipValueKernel, {
      rows: length,
      split: { gradient: gradients },
      params: { limit },
      count: "n",
      grid: threads,
    });
  }
}

function checkArena(name: string, arena: unknown): void {
  if (!(arena instanceof Arena))
    throw new ShapeError(
      `${name}: expected an arena; pass that of the optimiser: ${name}(optimiser.arena, 1)`,
    );
  arena.assertAlive(`${name}()`);
}

/** One sum for each part of each segment; where there are several, each begins where it can be bound. */
function partialSums(
  gpu: Gpu,
  segments: readonly ArenaSegment[],
): { readonly sums: GpuArray; readonly places: readonly number[] } {
  const places: number[] = [];
  let size = 0;
  for (const { length } of segments) {
    size = Math.ceil(size / BLOCK) * BLOCK;
    places.push(size);
    size += Math.ceil(length / PART);
  }
  const sums = gpu.empty([size]);
  if (segments.length > 1) fill(gpu, sums);
  return { sums, places };
}
