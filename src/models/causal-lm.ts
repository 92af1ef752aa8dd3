import { type Gpu, showShape } from "../array/index.ts";
import { add, linear, Parameter, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type ForwardOptions, Module, positionsInFront, type Site, seenInFront } from "../nn/index.ts";
import type { KeyValueCache } from "./key-value-cache.ts";

/** A batch of texts on the GPU, padded at the left or at the right. */
export interface CausalInput {
  /** i32 [B, T]. */
  readonly inputIds: Tensor;
  /** i32 [B, T], see `causalPositions`. */
  readonly positionIds: Tensor;
  /**
   * i32 [B, S], 0 at padding: S = T, or with a cache all its rows but those of virtual tokens. null: no padding. A
   * token sees those before it that are no padding.
   */
  readonly attentionMask: Tensor | null;
}

/** What a pass of a causal language model may be given beside its input. */
export interface CausalOptions extends ForwardOptions {
  /** Keys and values of the tokens before: the new ones are appended. Only in noGrad(). */
  readonly cache?: KeyValueCache | undefined;
}

/** A causal language model, as generation and losses see it. */
export interface CausalLM extends Module {
  readonly gpu: Gpu;
  readonly config: object;
  /** Its name in the `architectures` of config.json. */
  readonly architecture: string;
  readonly vocabularySize: number;
  /** The longest text, in tokens. */
  readonly positions: number;
  /** Tokens that an adaptation puts in front of every text: they take positions, and rows of a cache. */
  readonly virtualTokens: number;
  /** Tokens that end a text. */
  readonly stopTokens: readonly number[];
  /** Layers, and channels of the keys (and of the values) of each. */
  readonly cacheShape: { readonly layers: number; readonly channels: number };
  sites(): Site[];
  /** Hidden states after the last normalisation: [B, T] -> [B, T, C]. `onHidden` sees the embeddings, each layer's output, and these. */
  hidden(input: CausalInput, options?: CausalOptions, onHidden?: (hidden: Tensor) => void): Tensor;
  /** Hidden states [..., C] -> logits [..., V]. */
  logits(hidden: Tensor): Tensor;
  /** [B, T] -> logits [B, T, V]. */
  forward(input: CausalInput, options?: CausalOptions): Tensor;
}

/**
 * Position ids of rows of tokens and padding: a token's is the number of tokens before it in its row, whichever side
 * padding is on; padding has 0. mask [B, T] row-major, 0 at padding. Throws where a row has more tokens than `limit`.
 */
export function causalPositions(
  mask: ArrayLike<number>,
  length: number,
  limit: number,
): Int32Array<ArrayBuffer> {
  const result = new Int32Array(mask.length);
  for (let row = 0; row < mask.length; row += length) {
    let next = 0;
    for (let t = row; t < row + length; t++) if (mask[t] !== 0) result[t] = next++;
    if (next > limit)
      throw new ShapeError(
        `causalPositions: a text of ${next} tokens; the model has positions for ${limit} (truncate to that)`,
      );
  }
  return result;
}

/** What makes logits of hidden states: a matrix of its own or the word embeddings', and a bias or none. */
export class CausalHead extends Module {
  /** [V, C]; null: the word embeddings' matrix is used. */
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  constructor(
    gpu: Gpu,
    vocabulary: number,
    channels: number,
    { tied, bias }: { tied: boolean; bias: boolean },
  ) {
    super();
    this.weight = tied ? null : Parameter.zeros(gpu, [vocabulary, channels]);
    this.bias = bias ? Parameter.zeros(gpu, [vocabulary]) : null;
  }

  forward(hidden: Tensor, words: Tensor): Tensor {
    return linear(hidden, this.weight ?? words, this.bias);
  }
}

/** Refuses ids and positions that are no [batch, length] of one shape. */
export function expectTokens(model: string, { inputIds, positionIds }: CausalInput): void {
  const [ids, positions] = [inputIds.shape, positionIds.shape];
  if (ids.length !== 2)
    throw new ShapeError(`${model}: inputIds ${showShape(ids)}, expected [batch, length]`);
  if (showShape(positions) !== showShape(ids))
    throw new ShapeError(
      `${model}: positionIds ${showShape(positions)}, inputIds ${showShape(ids)}; expected the same`,
    );
}

/** A pass of a model with P virtual tokens in front of every text. */
export interface PrefixedPass {
  /** How many of them are in this pass: all in the first, none once a cache holds them. */
  readonly front: number;
  readonly positions: Tensor;
  readonly mask: Tensor | null;
}

/** Positions and mask of a pass where P virtual tokens are in front: positions 0 to P - 1, seen by all. */
export function prefixedPass(
  { inputIds, positionIds, attentionMask }: CausalInput,
  P: number,
  { limit, cache }: { readonly limit: number; readonly cache?: KeyValueCache | undefined },
): PrefixedPass {
  if (P === 0) return { front: 0, positions: positionIds, mask: attentionMask };
  const mask = seenInFront(attentionMask, P);
  const held = cache?.length ?? 0;
  if (held > 0) return { front: 0, positions: add(positionIds, P), mask };
  const T = inputIds.shape[1] as number;
  if (P + T > limit)
    throw new ShapeError(
      `prompt: ${P} virtual tokens and a batch of length ${T}; the model has positions for ${limit} (cut texts to ${limit - P})`,
    );
  return { front: P, positions: positionsInFront(positionIds, P, 0), mask };
}

/** Hidden states [B, P + T, C] without those of the P tokens in front. */
export function withoutFront(hidden: Tensor, P: number): Tensor {
  return P === 0 ? hidden : hidden.slice(1, P, hidden.shape[1] as number);
}
