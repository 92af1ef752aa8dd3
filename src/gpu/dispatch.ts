import { GpuError, ShapeError } from "./errors.ts";
import type { Kernel, KernelSpec } from "./kernel.ts";
import type { PoolBuffer, ScratchTexture } from "./pool.ts";
import type { ParamField } from "./wgsl.ts";

/** A range of one buffer as a kernel sees it, or a texture. `offset` is a multiple of the device's storage alignment. */
export interface Binding {
  readonly buffer: PoolBuffer | ScratchTexture;
  readonly offset: number;
  readonly bytes: number;
  /** What lies there, for those who look on. Absent for the dummy of an absent array. */
  readonly array?: BoundArray;
}

/** What a profiler or a tracer says about a bound array. */
export interface BoundArray {
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** `offset` and `strides` count elements from the start of the binding. */
export interface BoundPart extends BoundArray {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** What an op can say about one dispatch. Only looked at while a device is profiled or traced. */
export interface Work {
  /** Floating-point operations. */
  readonly flops?: number;
  /** Where a kernel is handed a whole storage: the strided part that it reads or writes, by binding. */
  readonly parts?: Readonly<Record<string, BoundPart>>;
}

/** A dispatch, as it is told to those who look on. */
export interface DispatchNote {
  readonly kernel: Kernel;
  readonly bindings: Bindings;
  readonly work: Work | undefined;
  /** "layerNorm", "layerNorm backward"; null outside of any op. */
  readonly op: string | null;
}

export type Bindings = Readonly<Record<string, Binding>>;
export type ParamValue = number | readonly number[];
export type Params = Readonly<Record<string, ParamValue>>;
/** Workgroups in x, y, z. One-dimensional grids beyond 65,535 are folded by `grid1d`. */
export type Grid = readonly [number, number, number];

const MAX_GROUPS = 65_535;

/** Folds a one-dimensional grid into two dimensions; the kernel unfolds it with lib/grid. */
export function grid1d(groups: number): Grid {
  if (groups <= MAX_GROUPS) return [Math.max(groups, 1), 1, 1];
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, 1];
}

/** Throws unless the device can start so many workgroups. */
export function checkGrid({ shader, entry }: KernelSpec, grid: Grid): void {
  for (let axis = 0; axis < 3; axis++) {
    const groups = grid[axis] as number; // 3 of them
    if (Number.isInteger(groups) && groups >= 0 && groups <= MAX_GROUPS) continue;
    throw new ShapeError(
      `${shader}.${entry}: ${groups} workgroups in ${"xyz"[axis]}, expected a whole number of 0 .. ${MAX_GROUPS}; grid1d(groups) folds a longer row of them`,
    );
  }
}

/** Throws unless each binding of the kernel has its buffer, and nothing else is passed. */
export function checkBindings(kernel: Kernel, bindings: Bindings): void {
  const wanted = kernel.layout.bindings;
  for (let i = 0; i < wanted.length; i++) {
    const { name } = wanted[i] as (typeof wanted)[number];
    if (!bindings[name]) throw new GpuError(`${kernel.label}: no buffer passed for "${name}"`);
  }
  let given = 0;
  for (const _ in bindings) given++;
  if (given > wanted.length) {
    const extra = Object.keys(bindings).filter((name) => !wanted.some((b) => b.name === name));
    throw new GpuError(`${kernel.label}: has no binding named ${extra.join(", ")}`);
  }
}

/**
 * Throws where a dispatch would write to memory that another of its bindings sees: WebGPU takes a buffer for reading or
 * for writing, not for both, and for two writes only where they do not meet.
 */
export function checkSharing(kernel: Kernel, bindings: Bindings): void {
  const { bindings: wanted } = kernel.layout;
  for (const written of wanted) {
    if (!written.writes) continue;
    const y = bindings[written.name] as Binding;
    for (const { name, writes } of wanted) {
      const x = bindings[name] as Binding;
      if (x.buffer !== y.buffer || name === written.name) continue;
      if (writes && (x.offset + x.bytes <= y.offset || y.offset + y.bytes <= x.offset)) continue;
      throw new GpuError(
        `${kernel.label}: "${name}" and "${written.name}" share memory, and "${written.name}" is written; let it be another array`,
      );
    }
  }
}

/** Counts a dispatch in the versions of the buffers that it writes to. */
export function countWrites(kernel: Kernel, bindings: Bindings): void {
  const { bindings: wanted } = kernel.layout;
  for (let i = 0; i < wanted.length; i++) {
    const { name, writes } = wanted[i] as (typeof wanted)[number];
    if (writes) (bindings[name] as Binding).buffer.version++;
  }
}

function wrongCount({ name, type, count }: ParamField, value: ParamValue): string {
  const given = Array.isArray(value) ? `a list of ${value.length}` : String(value);
  return `parameter "${name}" is ${given}, expected ${count > 1 ? `a list of ${type}, ${count} at most` : `a ${type}`}`;
}

/** Parameters of many dispatches behind one another, as the words of a uniform buffer. */
export class ParamWords {
  words: Uint32Array<ArrayBuffer>;
  #floats: Float32Array;
  #ints: Int32Array;

  constructor(bytes: number) {
    this.words = new Uint32Array(bytes / 4);
    this.#floats = new Float32Array(this.words.buffer);
    this.#ints = new Int32Array(this.words.buffer);
  }

  /** Makes room for at least so many bytes. */
  grow(bytes: number): void {
    if (bytes <= this.words.byteLength) return;
    const larger = new ParamWords(Math.max(bytes, 2 * this.words.byteLength));
    larger.words.set(this.words);
    this.words = larger.words;
    this.#floats = larger.#floats;
    this.#ints = larger.#ints;
  }

  /** Writes the parameters of one dispatch at a byte offset, after a check that each has a value. */
  write(kernel: Kernel, params: Params, offset: number): void {
    const base = offset / 4;
    const fields = kernel.layout.params?.fields ?? [];
    const names = Object.keys(params);
    if (names.length > fields.length) {
      const extra = names.filter((name) => !fields.some((field) => field.name === name));
      throw new ShapeError(`${kernel.label}: has no parameter named ${extra.join(", ")}`);
    }
    for (const field of fields) {
      const value = params[field.name];
      if (value === undefined)
        throw new ShapeError(`${kernel.label}: no value passed for parameter "${field.name}"`);
      const target = field.type === "f32" ? this.#floats : field.type === "i32" ? this.#ints : this.words;
      // A shorter list ends in zeros.
      if (typeof value === "number" ? field.count > 1 : !(value.length <= field.count))
        throw new ShapeError(`${kernel.label}: ${wrongCount(field, value)}`);
      const n = field.count;
      for (let i = 0; i < n; i++) {
        const given = typeof value === "number" ? value : (value[i] ?? 0);
        const at = base + field.offset + i;
        target[at] = given;
        // A whole number that does not read back as it was given did not fit.
        if (target[at] !== given && field.type !== "f32")
          throw new ShapeError(
            `${kernel.label}: parameter "${field.name}" is ${given}, expected a ${field.type}`,
          );
      }
    }
  }
}
