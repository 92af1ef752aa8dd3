import type { Parameter, Tensor } from "../autograd/index.ts";
import { inFront } from "./in-front.ts";
import type { ForwardOptions } from "./layers.ts";
import { SiteBase, type SitePlace } from "./site-base.ts";

/** Tokens that go in front of those of every text: rows [P, C] in place of word embeddings. */
export interface VirtualTokens {
  readonly count: number;
  rows(options: ForwardOptions): Tensor;
}

/**
 * The embedded words before the first layer. The model gives the tokens in front positions of their own, lets every
 * token see them, and leaves them out of what it returns.
 */
export class EmbeddedSite extends SiteBase<VirtualTokens> {
  readonly kind = "embedded";
  /** The word embeddings [V, C]. */
  readonly words: Parameter;

  constructor(place: SitePlace, words: Parameter) {
    super(place);
    this.words = words;
  }

  get channels(): number {
    return this.words.shape[1] as number;
  }

  /** How many tokens are in front of every text. */
  get virtualTokens(): number {
    let n = 0;
    for (const { count } of this.adaptations.values()) n += count;
    return n;
  }

  /** [B, T, C] -> [B, P + T, C]. What was attached last is next to the text's front. */
  apply(embedded: Tensor, options: ForwardOptions): Tensor {
    let all = embedded;
    for (const tokens of this.adaptations.values()) all = inFront(tokens.rows(options), all);
    return all;
  }
}
