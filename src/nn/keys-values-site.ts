import type { Tensor } from "../autograd/index.ts";
import { inFront, seenInFront } from "./in-front.ts";
import type { ForwardOptions } from "./layers.ts";
import { SiteBase, type SitePlace } from "./site-base.ts";

/** What the queries of an attention look at. */
export interface KeysValues {
  /** [B, S, C] each. */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** i32 [B, S], 0 at padding; null: no padding. */
  readonly mask: Tensor | null;
  /** How many rows are in use, of a cache. */
  readonly keyLength?: number | undefined;
}

/** Keys and values [P, C], or [B, P, C], that go in front of those of the tokens. x: the input of the attention. */
export type KeysValuesAdaptation = (
  x: Tensor,
  options: ForwardOptions,
) => Pick<KeysValues, "keys" | "values">;

/** Sizes and order of an attention; see KeysValuesSite. */
export interface KeysValuesSizes {
  readonly inputs: number;
  readonly channels: number;
  readonly isCausal?: boolean;
}

/** The keys and values of an attention, after everything that was done to them (Llama's are turned by then). */
export class KeysValuesSite extends SiteBase<KeysValuesAdaptation> {
  readonly kind = "keysValues";
  readonly channels: number;
  /** Channels of the attention's input x. */
  readonly inputs: number;
  /** Whether a token sees only those before it: x may then be the last part of a text. */
  readonly isCausal: boolean;

  constructor(place: SitePlace, { inputs, channels, isCausal = false }: KeysValuesSizes) {
    super(place);
    this.inputs = inputs;
    this.channels = channels;
    this.isCausal = isCausal;
  }

  apply(own: KeysValues, x: Tensor, options: ForwardOptions): KeysValues {
    let all = own;
    for (const adapt of this.adaptations.values()) {
      const { keys, values } = adapt(x, options);
      const P = keys.shape.at(-2) as number;
      all = {
        keys: inFront(keys, all.keys),
        values: inFront(values, all.values),
        mask: seenInFront(all.mask, P),
        keyLength: all.keyLength === undefined ? undefined : all.keyLength + P,
      };
    }
    return all;
  }
}
