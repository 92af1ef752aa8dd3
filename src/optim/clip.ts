import { Tensor } from "../autograd/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { rowKernel, threads } from "../ops/index.ts";
import type { Arena } from "./arena.ts";

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
  if (!(maxNorm > 0)) throw new ShapeError(`clipGradNorm: maxNorm is ${maxNorm}, expected more than 0`);
  const { gpu, gradients, length } = arena;
  const parts = Math.ceil(length / PART);
  const params = { n: length / 4, parts, limit: maxNorm };
  const norm = gpu.empty([]);
  gpu.scope(
    () => {
      const sums = gpu.empty([parts]);
      gpu.run(partialKernel(gpu, 4).kernel, { gradient: gradients, sums }, params, [parts, 1, 1]);
      gpu.run(finishKernel(gpu, 4).kernel, { sums_saved: sums, norm }, params, [1, 1, 1]);
      gpu.run(clipKernel, { norm_saved: norm, scaled: gradients }, params, threads(length / 4));
    },
    () => [],
  );
  return new Tensor(gpu, norm);
}

/** Limits every gradient to -limit..limit, each for itself. NaN stays NaN. */
export function clipGradValue(arena: Arena, limit: number): void {
  if (!(limit > 0 && Number.isFinite(limit)))
    throw new ShapeError(`clipGradValue: limit is ${limit}, expected more than 0`);
  const { gpu, gradients, length } = arena;
  gpu.run(clipValueKernel, { gradient: gradients }, { n: length, limit }, threads(length));
}
