import type { Gpu, TypedArray } from "../array/index.ts";
import { keep, type Tensor, tensor } from "../autograd/index.ts";

/** Input slots on the GPU: one tensor for each name and shape, overwritten by whatever comes next. */
export class InputSlots {
  readonly #gpu: Gpu;
  readonly #slots = new Map<string, Tensor>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** The slot of a name and shape, holding `data`. */
  slot(name: string, data: TypedArray, shape: readonly number[]): Tensor {
    const key = `${name}:${shape.join(",")}`;
    const known = this.#slots.get(key);
    if (known) {
      known.write(data);
      return known;
    }
    const made = keep(tensor(this.#gpu, data, shape));
    this.#slots.set(key, made);
    return made;
  }

  dispose(): void {
    for (const slot of this.#slots.values()) slot.dispose();
    this.#slots.clear();
  }
}

/** Some numbers `times` times behind one another: the rows of several passes. */
export function repeated<A extends Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>>(
  data: A,
  times: number,
): A {
  if (times === 1) return data;
  const all =
    data instanceof Int32Array ? new Int32Array(data.length * times) : new Float32Array(data.length * times);
  for (let i = 0; i < times; i++) all.set(data, i * data.length);
  return all as A; // The same class as `data`.
}
