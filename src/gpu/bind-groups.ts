import { GpuError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import type { PoolBuffer } from "./pool.ts";

/** A range of one buffer as a kernel sees it. `offset` is a multiple of the device's storage alignment. */
export interface Binding {
  readonly buffer: PoolBuffer;
  readonly offset: number;
  readonly bytes: number;
  /** What lies there, for those who look on; see Watcher. Absent for the dummy of an absent array. */
  readonly array?: BoundArray;
}

/** What a profiler or a tracer says about a bound array. */
export interface BoundArray {
  readonly shape: readonly number[];
  readonly dtype: string;
}

interface Entry {
  /** Buffer, offset and bytes of each binding, in the kernel's order. */
  readonly bound: readonly number[];
  readonly group: GPUBindGroup;
  readonly next: Entry | null;
}

const MOST_GROUPS = 32_768;

/**
 * Bind groups by kernel and by what is bound. They are found by a hash of numbers: building a string for
 * each dispatch costs more than the dispatch itself.
 */
export class BindGroups {
  readonly #device: GPUDevice;
  readonly #params: GPUBuffer;
  /** For each kernel's id, entries by hash. */
  readonly #ofKernel: Map<number, Entry>[] = [];
  #size = 0;

  /** `params` is the uniform buffer of all parameters. */
  constructor(device: GPUDevice, params: GPUBuffer) {
    this.#device = device;
    this.#params = params;
  }

  get size(): number {
    return this.#size;
  }

  /** The group of these bindings. Marks their buffers as used by `batch`. */
  get(kernel: Kernel, bindings: Readonly<Record<string, Binding>>, batch: number): GPUBindGroup {
    const hash = hashOf(kernel, bindings, batch);
    for (let entry = this.#ofKernel[kernel.id]?.get(hash); entry; entry = entry.next ?? undefined)
      if (isSame(entry.bound, kernel, bindings)) return entry.group;
    return this.#add(kernel, bindings, hash);
  }

  /** Forgets all: groups would hold on to buffers that the pool destroys. */
  clear(): void {
    this.#ofKernel.length = 0;
    this.#size = 0;
  }

  #add(kernel: Kernel, bindings: Readonly<Record<string, Binding>>, hash: number): GPUBindGroup {
    // Batches of ever new lengths would collect groups without end.
    if (this.#size >= MOST_GROUPS) this.clear();
    let groups = this.#ofKernel[kernel.id];
    if (!groups) {
      groups = new Map();
      this.#ofKernel[kernel.id] = groups;
    }
    const bound = kernel.layout.bindings.flatMap(({ name }) => {
      const { buffer, offset, bytes } = bindings[name] as Binding; // hashOf() has seen it
      return [buffer.id, offset, bytes];
    });
    const group = this.#create(kernel, bindings);
    groups.set(hash, { bound, group, next: groups.get(hash) ?? null });
    this.#size++;
    return group;
  }

  #create(kernel: Kernel, bindings: Readonly<Record<string, Binding>>): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = kernel.layout.bindings.map(({ name, binding }) => {
      const { buffer, offset, bytes } = bindings[name] as Binding; // hashOf() has seen it
      return { binding, resource: { buffer: buffer.gpu, offset, size: bytes } };
    });
    const { params } = kernel.layout;
    if (params)
      entries.push({ binding: params.binding, resource: { buffer: this.#params, size: params.bytes } });
    return this.#device.createBindGroup({ label: kernel.label, layout: kernel.bindGroupLayout, entries });
  }
}

/** Mixes the numbers of all bindings into 30 bits. Checks names on the way, and marks buffers as used. */
function hashOf(kernel: Kernel, bindings: Readonly<Record<string, Binding>>, batch: number): number {
  const wanted = kernel.layout.bindings;
  let hash = 0;
  for (let i = 0; i < wanted.length; i++) {
    const name = (wanted[i] as { name: string }).name;
    const binding = bindings[name];
    if (!binding) throw new GpuError(`${kernel.label}: no buffer passed for "${name}"`);
    binding.buffer.batch = batch;
    hash = Math.imul(hash ^ binding.buffer.id, 0x9e3779b1);
    hash = Math.imul((hash ^ (hash >>> 15) ^ binding.offset) + binding.bytes, 0x85ebca6b);
  }
  let given = 0;
  for (const _ in bindings) given++;
  if (given > wanted.length) {
    const extra = Object.keys(bindings).filter((name) => !wanted.some((b) => b.name === name));
    throw new GpuError(`${kernel.label}: has no binding named ${extra.join(", ")}`);
  }
  return (hash ^ (hash >>> 13)) & 0x3fffffff; // a small integer to the engine
}

function isSame(
  bound: readonly number[],
  kernel: Kernel,
  bindings: Readonly<Record<string, Binding>>,
): boolean {
  const wanted = kernel.layout.bindings;
  for (let i = 0; i < wanted.length; i++) {
    const { buffer, offset, bytes } = bindings[(wanted[i] as { name: string }).name] as Binding;
    if (bound[3 * i] !== buffer.id || bound[3 * i + 1] !== offset || bound[3 * i + 2] !== bytes) return false;
  }
  return true;
}
