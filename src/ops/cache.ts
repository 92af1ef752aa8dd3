import { type Gpu, type GpuArray, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { copyInto } from "./kernels.ts";

/**
 * Overwrites rows `position` to position + T of a cache of keys or values: cache [B, capacity, C], x [B, T, C].
 * One dispatch. `attention` reads the rows back with `keyLength`.
 */
export function writeCache(gpu: Gpu, cache: GpuArray, x: GpuArray, position: number): void {
  const [batch, capacity, channels] = cache.shape;
  const [, length = 0] = x.shape;
  if (cache.shape.length !== 3 || x.shape.length !== 3 || x.shape[0] !== batch || x.shape[2] !== channels) {
    throw new ShapeError(
      `cacheWrite: cache ${showShape(cache.shape)}, x ${showShape(x.shape)}; expected [B, capacity, C] and [B, T, C]`,
    );
  }
  if (cache.dtype !== "f32" || x.dtype !== "f32")
    throw new ShapeError(`cacheWrite: cache ${cache.dtype}, x ${x.dtype}; expected f32 twice`);
  if (!Number.isInteger(position) || position < 0 || position + length > (capacity as number)) {
    throw new ShapeError(
      `cacheWrite: ${length} rows from ${position} on do not fit the ${capacity} rows of the cache ${showShape(cache.shape)}`,
    );
  }
  gpu.scope(
    () => {
      const [strideB, strideT, strideC] = cache.strides as [number, number, number];
      const rows = gpu.view(cache, x.shape, cache.offset + position * strideT, [strideB, strideT, strideC]);
      copyInto(gpu, x, rows);
    },
    () => [],
  );
}
