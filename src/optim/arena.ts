import { type Gpu, type GpuArray, showShape, sizeOf } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { copyInto, fill } from "../ops/index.ts";

/** Elements that a parameter's place is a multiple of: 256 bytes, so that every place can be bound. */
const PLACE = 64;

/** Where one parameter lies in the arena. */
export interface ArenaEntry {
  readonly parameter: Parameter;
  /** First element. */
  readonly first: number;
  /** Elements of one slice (an expert of a bank, or the whole parameter). */
  readonly sliceSize: number;
  /** Number of its first slice among all slices of the arena. */
  readonly firstSlice: number;
}

/**
 * Trainable parameters and their gradients in two flat arrays. Each parameter becomes an aligned view, so that
 * the optimiser, the norm and a checkpoint are one operation each. Frozen parameters stay where they are.
 */
export class Arena {
  readonly gpu: Gpu;
  readonly entries: readonly ArenaEntry[];
  /** Elements, with padding. */
  readonly length: number;
  readonly slices: number;
  readonly values: GpuArray;
  readonly gradients: GpuArray;
  /** u32 [slices]: slices that this step has used. Slices of unrouted parameters are always 1. */
  readonly drawn: GpuArray;
  /** u32 [1]: not 0 where an optimiser leaves the step out; see LossScaler. */
  readonly skip: GpuArray;
  readonly #alwaysDrawn: GpuArray;

  constructor(parameters: readonly Parameter[]) {
    const trained = new Set(parameters.filter(({ requiresGrad }) => requiresGrad));
    const [head] = trained;
    if (!head)
      throw new ShapeError(
        "optimiser: no trainable parameters; set requiresGrad on some, or attach an adaptation",
      );
    this.gpu = head.gpu;
    const half = [...trained].find(({ dtype }) => dtype !== "f32");
    if (half) {
      throw new ShapeError(
        `optimiser: a trainable parameter ${showShape(half.shape)} of ${half.dtype}; keep an f32 master, and compute in ${half.dtype} under autocast()`,
      );
    }
    const entries: ArenaEntry[] = [];
    let first = 0;
    let firstSlice = 0;
    for (const parameter of trained) {
      const sliceSize = parameter.size / parameter.slices;
      entries.push({ parameter, first, sliceSize, firstSlice });
      first += Math.ceil(parameter.size / PLACE) * PLACE;
      // The places of slices in `drawn` are views that are bound as well.
      firstSlice += Math.ceil(parameter.slices / PLACE) * PLACE;
    }
    this.entries = entries;
    this.length = first;
    this.slices = firstSlice;
    this.values = this.gpu.empty([first]);
    this.gradients = this.gpu.empty([first]);
    this.drawn = this.gpu.empty([firstSlice], "u32");
    this.skip = this.gpu.empty([1], "u32");
    fill(this.gpu, this.skip);
    fill(this.gpu, this.values);
    fill(this.gpu, this.gradients);
    const always = new Uint32Array(firstSlice);
    for (const { parameter, firstSlice: at } of entries)
      always.fill(parameter.slices > 1 ? 0 : 1, at, at + parameter.slices);
    this.#alwaysDrawn = this.gpu.from(always);
    this.#moveIn();
    this.zeroGrad();
  }

  /** Forgets gradients and draws. */
  zeroGrad(): void {
    fill(this.gpu, this.gradients);
    this.gpu.scope(
      () => copyInto(this.gpu, this.#alwaysDrawn, this.drawn),
      () => [],
    );
  }

  /** Gives the arena's own references back; parameters keep theirs. */
  dispose(): void {
    for (const array of [this.values, this.gradients, this.drawn, this.skip, this.#alwaysDrawn])
      array.release();
  }

  #moveIn(): void {
    for (const { parameter, first, firstSlice } of this.entries) {
      const place = this.values.view(parameter.shape, first);
      this.gpu.scope(
        () => copyInto(this.gpu, parameter.array, place),
        () => [],
      );
      parameter.moveTo(place, this.gradients.view(parameter.shape, first));
      parameter.drawn = parameter.slices > 1 ? this.drawn.view([parameter.slices], firstSlice) : null;
    }
  }
}

/** Elements of a place, for tables by block. */
export function blocksOf(entry: ArenaEntry): number {
  return Math.ceil(sizeOf(entry.parameter.shape) / PLACE);
}
