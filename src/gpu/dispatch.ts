import { GpuError, ShapeError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import type { PoolBuffer } from "./pool.ts";

/** A range of one buffer as a kernel sees it. `offset` is a multiple of the device's storage alignment. */
export interface Binding {
  readonly buffer: PoolBuffer;
  readonly offset: number;
  readonly bytes: number;
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

/** Names a bind group by kernel, buffers and ranges, after a check that each binding got its buffer. */
export function bindGroupKey(kernel: Kernel, bindings: Bindings): string {
  const wanted = kernel.layout.bindings;
  let key = `${kernel.id}`;
  for (const { name } of wanted) {
    const binding = bindings[name];
    if (!binding) throw new GpuError(`${kernel.label}: no buffer passed for "${name}"`);
    key += `:${binding.buffer.id},${binding.offset},${binding.bytes}`;
  }
  const names = Object.keys(bindings);
  if (names.length > wanted.length) {
    const extra = names.filter((name) => !wanted.some((b) => b.name === name));
    throw new GpuError(`${kernel.label}: has no binding named ${extra.join(", ")}`);
  }
  return key;
}

/** Counts a dispatch in the versions of the buffers that it writes to. */
export function countWrites(kernel: Kernel, bindings: Bindings): void {
  for (const { name, writes } of kernel.layout.bindings) {
    if (writes) (bindings[name] as Binding).buffer.version++;
  }
}

/** A bind group whose parameters lie in `uniforms`, at the dynamic offset of each dispatch. */
export function createBindGroup(
  device: GPUDevice,
  kernel: Kernel,
  bindings: Bindings,
  uniforms: GPUBuffer | null,
): GPUBindGroup {
  const entries: GPUBindGroupEntry[] = kernel.layout.bindings.map(({ name, binding }) => {
    const { buffer, offset, bytes } = bindings[name] as Binding;
    return { binding, resource: { buffer: buffer.gpu, offset, size: bytes } };
  });
  const { params } = kernel.layout;
  if (params && uniforms)
    entries.push({ binding: params.binding, resource: { buffer: uniforms, size: params.bytes } });
  return device.createBindGroup({ label: kernel.label, layout: kernel.bindGroupLayout, entries });
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
      if (typeof value === "number") target[base + field.offset] = value;
      else for (let i = 0; i < field.count; i++) target[base + field.offset + i] = value[i] ?? 0;
    }
  }
}
