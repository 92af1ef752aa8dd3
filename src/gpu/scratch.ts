import type { Pool, ScratchTexture } from "./pool.ts";

/** Texels to a row: kernels find texel i at (i mod 2048, i div 2048). */
export const SCRATCH_WIDTH = 2048;
/** Bytes of a row. Copies are of whole rows. */
export const SCRATCH_ROW_BYTES = 16 * SCRATCH_WIDTH;

/**
 * Textures that operands are copied to for the kernel right behind: software adapters read four floats of a texture at
 * once, of a buffer each by itself. One for each slot serves all dispatches, in their order, and is replaced by a larger
 * one where it is too small.
 */
export class ScratchTextures {
  readonly #pool: Pool;
  /** By slot, the largest last. Those before it are in use by captured steps. */
  readonly #slots = new Map<number, ScratchTexture[]>();

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** The texture of a slot if it has so many texels. */
  find(slot: number, texels: number): ScratchTexture | null {
    const last = this.#slots.get(slot)?.at(-1);
    return last && last.bytes >= 16 * texels ? last : null;
  }

  /** Bytes of a texture of so many texels: rows are doubled, so that few are ever made. */
  bytesFor(texels: number): number {
    return 16 * SCRATCH_WIDTH * rowsFor(texels);
  }

  /** A larger texture for a slot. */
  grow(slot: number, texels: number): ScratchTexture {
    const made = this.#pool.createTexture(SCRATCH_WIDTH, rowsFor(texels));
    this.#slots.set(slot, [...(this.#slots.get(slot) ?? []), made]);
    return made;
  }

  /** Gives back all that is not pinned. The caller has flushed: no recorded command may still name one. */
  trim(): void {
    for (const slot of this.#slots.keys()) this.trimSlot(slot);
  }

  /** The same of one slot. */
  trimSlot(slot: number): void {
    const textures = this.#slots.get(slot) ?? [];
    for (const texture of textures) if (texture.pins === 0) this.#pool.destroyTexture(texture);
    this.#slots.set(
      slot,
      textures.filter(({ pins }) => pins > 0),
    );
  }
}

function rowsFor(texels: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, texels / SCRATCH_WIDTH)));
}
