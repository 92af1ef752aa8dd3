import { type Gpu, type GpuArray, lastOf, showShape, type TypedArray } from "../array/index.ts";
import { Parameter } from "../autograd/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import { copyInto, fill } from "../ops/index.ts";

/** Elements that a parameter's place is a multiple of: 256 bytes, so that every place can be bound. */
export const BLOCK = 64;

/** Where one parameter lies in its segment. */
export interface ArenaEntry {
  readonly parameter: Parameter;
  /** First element. */
  readonly first: number;
  /** Elements of one slice (an expert of a bank, or the whole parameter). */
  readonly sliceSize: number;
  /** Number of its first slice among all slices of the arena. */
  readonly firstSlice: number;
}

/** Values and gradients of some parameters, each a flat array. */
export interface ArenaSegment {
  readonly entries: readonly ArenaEntry[];
  /** Elements, with padding. */
  readonly length: number;
  /** Elements of a row, between which chunks end where one parameter is larger than a binding. */
  readonly rowLength: number;
  readonly values: GpuArray;
  readonly gradients: GpuArray;
}

/**
 * Trainable parameters and their gradients in flat arrays. Each parameter becomes an aligned view, so that the
 * optimiser, the norm and a checkpoint are one operation each. Frozen parameters stay where they are.
 * What one binding holds is one segment; beyond, parameters are packed into several in their order, and one larger
 * than a binding has a segment of its own.
 */
export class Arena {
  readonly gpu: Gpu;
  readonly segments: readonly ArenaSegment[];
  readonly slices: number;
  /** u32 [slices]: slices that gradients have reached since zeroGrad(). Slices of unrouted parameters are always 1. */
  readonly drawn: GpuArray;
  /** u32 [1]: not 0 where an optimiser leaves the step out; see LossScaler. */
  readonly skip: GpuArray;
  readonly #alwaysDrawn: GpuArray;
  readonly #name: string;
  #disposed = false;

  /** `name`: the optimiser's, for messages. A parameter is in one arena at a time: that of the last one is disposed first. */
  constructor(parameters: readonly Parameter[], name = "optimiser") {
    const { gpu, trained } = trainedOf(name, parameters);
    this.gpu = gpu;
    this.#name = name;
    this.slices = numberOfSlices(trained);
    this.drawn = this.gpu.empty([this.slices], "u32").under("optimiser");
    this.skip = this.gpu.empty([1], "u32").under("optimiser");
    fill(this.gpu, this.skip);
    const always = new Uint32Array(this.slices);
    const segments = layOut(trained, this.gpu.maxBindingBytes / 4);
    for (const { parameter, firstSlice: at } of segments.flatMap(({ entries }) => entries))
      always.fill(parameter.slices > 1 ? 0 : 1, at, at + parameter.slices);
    this.#alwaysDrawn = this.gpu.from(always).under("optimiser");
    // One after the other: what a segment's parameters held before is free for the next one.
    this.segments = segments.map((segment) => this.#moveIn(segment));
    for (const parameter of trained) parameter.holder = this;
    this.zeroGrad();
  }

  /** Throws after dispose(): an optimiser's step would write to memory that others may have by now. */
  assertAlive(call: string): void {
    if (this.#disposed) throw new GpuError(`${this.#name}: ${call} after dispose()`);
  }

  /** Forgets gradients and draws: one fill for all, after which the first gradient of each is written in its place. */
  zeroGrad(): void {
    this.assertAlive("zeroGrad()");
    for (const { gradients, entries } of this.segments) {
      fill(this.gpu, gradients);
      for (const { parameter } of entries) parameter.gradientsZeroed(gradients);
    }
    this.gpu.scope(
      () => copyInto(this.gpu, this.#alwaysDrawn, this.drawn),
      () => [],
    );
  }

  /** All places of parameters, in their order. */
  get entries(): readonly ArenaEntry[] {
    return this.segments.flatMap(({ entries }) => entries);
  }

  /** Elements of all segments, with padding. */
  get length(): number {
    return this.segments.reduce((sum, { length }) => sum + length, 0);
  }

  /** An array of zeros for each segment, of its length: what an optimiser keeps for each element. */
  zeros(): GpuArray[] {
    return this.segments.map(({ length, rowLength }) => {
      const array = this.gpu.empty([length], "f32", rowLength).under("optimiser");
      fill(this.gpu, array);
      return array;
    });
  }

  /** Reads arrays like those of `zeros`, behind one another. */
  async read(arrays: readonly GpuArray[]): Promise<TypedArray> {
    const [only] = arrays;
    if (only && arrays.length === 1) return this.gpu.read(only);
    const all = new Float32Array(this.length);
    let first = 0;
    for (const array of arrays) {
      all.set(await this.gpu.read(array), first);
      first += array.size;
    }
    return all;
  }

  /** Writes what `read` gave. */
  write(arrays: readonly GpuArray[], values: TypedArray): void {
    let first = 0;
    for (const array of arrays) {
      this.gpu.write(array, values.subarray(first, first + array.size));
      first += array.size;
    }
  }

  /** Gives the arena's own references back; parameters keep theirs, and may join another optimiser. Idempotent. */
  dispose(): void {
    this.#disposed = true;
    for (const { parameter } of this.entries) if (parameter.holder === this) parameter.holder = null;
    for (const { values, gradients } of this.segments)
      for (const array of [values, gradients]) array.release();
    for (const array of [this.drawn, this.skip, this.#alwaysDrawn]) array.release();
  }

  #moveIn({ entries, length, rowLength }: Layout): ArenaSegment {
    const { gpu } = this;
    const values = gpu.empty([length], "f32", rowLength).under("parameters");
    const gradients = gpu.empty([length], "f32", rowLength).under("gradients");
    fill(gpu, values);
    fill(gpu, gradients);
    for (const { parameter, first, firstSlice } of entries) {
      const place = values.view(parameter.shape, first);
      gpu.scope(
        () => copyInto(gpu, parameter.array, place),
        () => [],
      );
      const drawn = parameter.slices > 1 ? this.drawn.view([parameter.slices], firstSlice) : null;
      parameter.moveTo(place, gradients.view(parameter.shape, first), drawn);
    }
    return { entries, length, rowLength, values, gradients };
  }
}

/** The parameters that an arena is made for, each once, after all checks: nothing has moved where one fails. */
function trainedOf(name: string, parameters: unknown): { gpu: Gpu; trained: ReadonlySet<Parameter> } {
  const fail = (what: string): never => {
    throw new ShapeError(`${name}: ${what}`);
  };
  if (!Array.isArray(parameters)) return fail("expected an array of parameters; pass module.parameters()");
  const trained = new Set<Parameter>();
  for (const [i, parameter] of parameters.entries()) {
    if (!(parameter instanceof Parameter))
      fail(`element ${i} of the parameters is no Parameter; make it with Parameter.from(...)`);
    if (parameter.requiresGrad) trained.add(parameter);
  }
  const [head] = trained;
  if (!head) return fail("no trainable parameters; set requiresGrad on some, or attach an adaptation");
  for (const { shape, dtype, gpu, holder } of trained) {
    if (dtype !== "f32")
      fail(
        `a trainable parameter ${showShape(shape)} of ${dtype}; keep an f32 master, and compute in ${dtype} under autocast()`,
      );
    if (gpu !== head.gpu) fail("parameters of two devices; make an optimiser for each");
    if (holder)
      fail(
        `a parameter ${showShape(shape)} belongs to an optimiser that is not disposed; dispose() that one first`,
      );
  }
  return { gpu: head.gpu, trained };
}

type Layout = Omit<ArenaSegment, "values" | "gradients">;

/** Places of parameters, in segments of up to `most` elements. */
function layOut(parameters: Iterable<Parameter>, most: number): Layout[] {
  const segments: Layout[] = [];
  let entries: ArenaEntry[] = [];
  let length = 0;
  let firstSlice = 0;
  const close = (): void => {
    if (entries.length > 0)
      segments.push({ entries, length, rowLength: length > most ? rowLengthOf(entries) : 1 });
    entries = [];
    length = 0;
  };
  for (const parameter of parameters) {
    const place = placeOf(parameter.size);
    if (length + place > most) close();
    entries.push({ parameter, first: length, sliceSize: parameter.size / parameter.slices, firstSlice });
    length += place;
    firstSlice += placeOf(parameter.slices);
  }
  close();
  return segments;
}

/** Of a segment that one large parameter has to itself. */
function rowLengthOf([entry]: readonly ArenaEntry[]): number {
  return entry ? lastOf(entry.parameter.shape) : 1;
}

/** The places of slices in `drawn` are views that are bound as well. */
function numberOfSlices(parameters: Iterable<Parameter>): number {
  let slices = 0;
  for (const parameter of parameters) slices += placeOf(parameter.slices);
  return slices;
}

function placeOf(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

/** Elements of a place, in blocks of 64, for tables by block. */
export function blocksOf({ parameter }: ArenaEntry): number {
  return Math.ceil(parameter.size / BLOCK);
}
