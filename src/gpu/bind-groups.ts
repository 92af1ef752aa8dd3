import { type Binding, type Bindings, checkSharing } from "./dispatch.ts";
import type { Kernel } from "./kernel.ts";
import { isBuffer } from "./pool.ts";

interface Entry {
  /** Buffer, offset and bytes of each binding, in the kernel's order. */
  readonly bound: readonly number[];
  readonly group: GPUBindGroup;
  readonly next: Entry | null;
}

const MOST_GROUPS = 16_384;
/** What a driver spends on one that V8 does not see: lavapipe maps a page, and a process may map 65,530. */
const GROUP_BYTES = 4096;

/** Groups that are known at one time. */
interface Generation {
  /** For each kernel's id, entries by hash. */
  readonly ofKernel: Map<number, Entry>[];
  /**
   * As large as the driver's part of the groups, a piece for every PIECE of them, and never touched. V8 counts it, and
   * so collects forgotten groups in time.
   */
  readonly unseen: ArrayBuffer[];
}

const PIECE = 256;

function newGeneration(): Generation {
  return { ofKernel: [], unseen: [] };
}

/**
 * Bind groups by kernel and by what is bound. They are found by a hash of numbers: building a string for
 * each dispatch costs more than looking it up.
 */
export class BindGroups {
  readonly #device: GPUDevice;
  readonly #uniforms: GPUBuffer | null;
  #generation = newGeneration();
  #size = 0;

  /** `uniforms` holds the parameters of all dispatches, each at a dynamic offset. */
  constructor(device: GPUDevice, uniforms: GPUBuffer | null) {
    this.#device = device;
    this.#uniforms = uniforms;
  }

  get size(): number {
    return this.#size;
  }

  /** The group of these bindings, which `checkBindings` has let pass. Throws where they share what is written. */
  get(kernel: Kernel, bindings: Bindings): GPUBindGroup {
    const hash = hashOf(kernel, bindings);
    for (let entry = this.#generation.ofKernel[kernel.id]?.get(hash); entry; entry = entry.next ?? undefined)
      if (isSame(entry.bound, kernel, bindings)) return entry.group;
    return this.#add(kernel, bindings, hash);
  }

  /** Forgets all: groups would hold on to buffers that the pool destroys. */
  clear(): void {
    this.#generation = newGeneration();
    this.#size = 0;
  }

  #add(kernel: Kernel, bindings: Bindings, hash: number): GPUBindGroup {
    checkSharing(kernel, bindings); // once: the same bindings are found next time
    // Batches of ever new lengths would collect groups without end.
    if (this.#size >= MOST_GROUPS) this.clear();
    const { ofKernel, unseen } = this.#generation;
    if (this.#size % PIECE === 0) unseen.push(new ArrayBuffer(PIECE * GROUP_BYTES));
    let groups = ofKernel[kernel.id];
    if (!groups) {
      groups = new Map();
      ofKernel[kernel.id] = groups;
    }
    const bound = kernel.layout.bindings.flatMap(({ name }) => {
      const { buffer, offset, bytes } = bindings[name] as Binding;
      return [buffer.id, offset, bytes];
    });
    const group = this.#create(kernel, bindings);
    groups.set(hash, { bound, group, next: groups.get(hash) ?? null });
    this.#size++;
    return group;
  }

  #create(kernel: Kernel, bindings: Bindings): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = kernel.layout.bindings.map(({ name, binding }) => {
      const { buffer, offset, bytes } = bindings[name] as Binding;
      if (!isBuffer(buffer)) return { binding, resource: buffer.view };
      return { binding, resource: { buffer: buffer.gpu, offset, size: bytes } };
    });
    const { params } = kernel.layout;
    if (params && this.#uniforms)
      entries.push({ binding: params.binding, resource: { buffer: this.#uniforms, size: params.bytes } });
    return this.#device.createBindGroup({ label: kernel.label, layout: kernel.bindGroupLayout, entries });
  }
}

/** Mixes the numbers of all bindings into 30 bits: a small integer to the engine of JavaScript. */
function hashOf(kernel: Kernel, bindings: Bindings): number {
  const wanted = kernel.layout.bindings;
  let hash = 0;
  for (let i = 0; i < wanted.length; i++) {
    const { buffer, offset, bytes } = bindings[(wanted[i] as (typeof wanted)[number]).name] as Binding;
    hash = Math.imul(hash ^ buffer.id, 0x9e3779b1);
    hash = Math.imul((hash ^ (hash >>> 15) ^ offset) + bytes, 0x85ebca6b);
  }
  return (hash ^ (hash >>> 13)) & 0x3fffffff;
}

function isSame(bound: readonly number[], kernel: Kernel, bindings: Bindings): boolean {
  const wanted = kernel.layout.bindings;
  for (let i = 0; i < wanted.length; i++) {
    const { buffer, offset, bytes } = bindings[(wanted[i] as (typeof wanted)[number]).name] as Binding;
    if (bound[3 * i] !== buffer.id || bound[3 * i + 1] !== offset || bound[3 * i + 2] !== bytes) return false;
  }
  return true;
}
