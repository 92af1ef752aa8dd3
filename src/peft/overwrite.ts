import type { Parameter, Tensor } from "../autograd/index.ts";
import { copyInto } from "../ops/index.ts";

/** Gives a parameter the values of a tensor of its shape, on the device. */
export function overwrite(parameter: Parameter, { gpu, array }: Tensor): void {
  // A scope frees the views that the copy takes.
  gpu.scope(
    () => copyInto(gpu, array, parameter.array),
    () => [],
  );
}
