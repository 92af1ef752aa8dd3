import { BindGroups } from "./bind-groups.ts";
import {
  type Binding,
  checkBindings,
  checkSharing,
  countWrites,
  type DispatchNote,
  type Grid,
  type Params,
  ParamWords,
} from "./dispatch.ts";
import { GpuError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import type { Pool, PoolBuffer, PoolMemory, ScratchTexture } from "./pool.ts";

/** A dispatch that can be encoded as it stands. `offsets`: of its parameters, empty where it has none. */
export interface CapturedDispatch {
  readonly kernel: Kernel;
  /** For those who look on at a replay. */
  readonly note: DispatchNote;
  readonly group: GPUBindGroup;
  readonly offsets: readonly number[];
  readonly grid: Grid;
}

export interface CapturedCopy {
  readonly kernel: null;
  readonly source: PoolBuffer;
  readonly sourceOffset: number;
  readonly target: PoolBuffer | ScratchTexture;
  readonly targetOffset: number;
  readonly bytes: number;
}

interface Pending {
  readonly kernel: Kernel;
  readonly note: DispatchNote;
  readonly offsets: readonly number[];
  readonly grid: Grid;
}

/**
 * The commands of one captured step, in order. Names and parameters are checked as they are taken down; `seal`
 * makes the bind groups and writes all parameters, once, into a uniform buffer of the list's own.
 *
 * A buffer that was handed out before the step began is pinned at its first use: nobody else is given it while
 * the list lives.
 */
export class CommandList {
  readonly #pool: Pool;
  readonly #slotAlign: number;
  readonly #pinned = new Set<PoolMemory>();
  readonly #buffers = new Set<PoolMemory>();
  readonly #written = new Set<PoolMemory>();
  readonly #params = new ParamWords(1 << 14);
  #paramBytes = 0;
  #pending: (Pending | CapturedCopy)[] = [];
  #uniforms: PoolBuffer | null = null;
  #commands: readonly (CapturedDispatch | CapturedCopy)[] = [];
  #bindGroups = 0;

  constructor(pool: Pool, slotAlign: number) {
    this.#pool = pool;
    this.#slotAlign = slotAlign;
  }

  get commands(): readonly (CapturedDispatch | CapturedCopy)[] {
    return this.#commands;
  }

  /** Every buffer that a command names. */
  get buffers(): ReadonlySet<PoolMemory> {
    return this.#buffers;
  }

  /** Those that a command writes to. */
  get written(): ReadonlySet<PoolMemory> {
    return this.#written;
  }

  /** Bind groups that the list holds. */
  get bindGroups(): number {
    return this.#bindGroups;
  }

  /** A buffer from outside the step that its owner has given back since it was used, if there is one. */
  get freed(): PoolMemory | undefined {
    for (const buffer of this.#pinned) if (buffer.isFreed) return buffer;
    return undefined;
  }

  dispatch(note: DispatchNote, params: Params, grid: Grid): void {
    const { kernel, bindings } = note;
    checkBindings(kernel, bindings); // before anything is taken down
    checkSharing(kernel, bindings);
    const { params: layout } = kernel.layout;
    const offset = this.#paramBytes;
    const slotBytes = Math.ceil((layout?.bytes ?? 0) / this.#slotAlign) * this.#slotAlign;
    this.#params.grow(offset + slotBytes);
    this.#params.write(kernel, params, offset);
    this.#paramBytes += slotBytes;
    for (const name in bindings) this.#use((bindings[name] as Binding).buffer);
    countWrites(kernel, bindings);
    for (const { name, writes } of kernel.layout.bindings)
      if (writes) this.#written.add((bindings[name] as Binding).buffer);
    this.#pending.push({ kernel, note, offsets: layout ? [offset] : [], grid });
  }

  copy(
    source: PoolBuffer,
    sourceOffset: number,
    target: PoolBuffer | ScratchTexture,
    targetOffset: number,
    bytes: number,
  ): void {
    this.#use(source);
    this.#use(target);
    this.#written.add(target);
    target.version++;
    this.#pending.push({ kernel: null, source, sourceOffset, target, targetOffset, bytes });
  }

  /** Bytes of the parameters of all dispatches. */
  get paramBytes(): number {
    return this.#paramBytes;
  }

  /** Their words. */
  get params(): Uint32Array<ArrayBuffer> {
    return this.#params.words.subarray(0, this.#paramBytes / 4);
  }

  /** Ends the recording. The list owns `uniforms`, which holds its parameters. */
  seal(device: GPUDevice, uniforms: PoolBuffer | null): void {
    this.#uniforms = uniforms;
    if (uniforms) this.#buffers.add(uniforms);
    this.#throwIfFreed();
    const groups = new BindGroups(device, uniforms?.gpu ?? null);
    this.#commands = this.#pending.map((command) => {
      if (!command.kernel) return command;
      const { kernel, note, offsets, grid } = command;
      return { kernel, note, group: groups.get(kernel, note.bindings), offsets, grid };
    });
    this.#pending = [];
    this.#bindGroups = groups.size;
  }

  /** Lets go of every buffer. */
  dispose(): void {
    for (const buffer of this.#pinned) this.#pool.unpin(buffer);
    this.#pinned.clear();
    if (this.#uniforms) this.#pool.release(this.#uniforms);
    this.#uniforms = null;
    this.#buffers.clear();
    this.#written.clear();
    this.#commands = [];
    this.#pending = [];
    this.#bindGroups = 0;
  }

  #use(buffer: PoolMemory): void {
    this.#buffers.add(buffer);
    // The run that this list takes down is named by the list itself.
    if (buffer.run === this || this.#pinned.has(buffer)) return;
    this.#pool.pin(buffer);
    this.#pinned.add(buffer);
  }

  #throwIfFreed(): void {
    const { freed } = this;
    if (!freed) return;
    throw new GpuError(
      `capture: the step frees (or replaces) a tensor of ${freed.bytes} bytes that was made before it began; free it outside`,
    );
  }
}
