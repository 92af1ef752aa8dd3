import { type Gpu, type GpuArray, showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { isTensor, noGrad, type Source, synchronous, type Tracked, tidy } from "./scope.ts";

/**
 * Calls a function of `onGrad` with a gradient, which `wrap` makes a tensor of. What comes back is a reference of the
 * caller's to what takes the gradient's place; null: nothing does.
 */
export function callHook<T extends Source & Tracked>(
  gpu: Gpu,
  gradient: GpuArray,
  wrap: (array: GpuArray) => T,
  // biome-ignore lint/suspicious/noConfusingVoidType: a function that only looks returns nothing
  fn: (gradient: T) => T | null | undefined | void,
): GpuArray | null {
  return tidy(() =>
    noGrad(() => {
      const { shape, offset, strides } = gradient;
      const result = synchronous("onGrad", fn(wrap(gradient.view(shape, offset, strides))));
      if (result === undefined || result === null) return null;
      if (!isTensor(result))
        throw new ShapeError(`onGrad: a ${typeof result} cannot take the place of a gradient`);
      const { array } = result;
      if (result.gpu !== gpu || array.dtype !== gradient.dtype || !array.hasShape(shape)) {
        throw new ShapeError(
          `onGrad: ${array.dtype} ${showShape(array.shape)} cannot take the place of a gradient ${gradient.dtype} ${showShape(shape)} of this device`,
        );
      }
      return array.view(array.shape, array.offset, array.strides);
    }),
  );
}
