// The layers that BERT and RoBERTa share: a post-LayerNorm Transformer encoder under the published names.
import { type Gpu, showShape } from "../array/index.ts";
import { attention, concat, drawOf, full, minimum, type Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import {
  EmbeddedSite,
  Embedding,
  type ForwardOptions,
  KeysValuesSite,
  LayerNorm,
  Linear,
  LinearSite,
  Module,
  maybeDropout,
  OutputSite,
  positionsInFront,
  type Site,
  type SiteRole,
  sameIn,
  seenInFront,
  throughLayer,
} from "../nn/index.ts";
import { type EncoderConfig, type HiddenAct, hiddenActivation } from "./encoder-config.ts";

/** A padded batch on the GPU: i32 [B, T] each; attentionMask is 0 at padding. */
export interface EncoderInput {
  readonly inputIds: Tensor;
  readonly positionIds: Tensor;
  readonly attentionMask: Tensor;
  /** Segments of BERT. Absent or null: 0 for every token. */
  readonly tokenTypeIds?: Tensor | null;
  /** f32 [B, 1, T]: 1 / length at tokens, 0 at padding. Only for heads that read the mean. */
  readonly poolingWeights: Tensor | null;
}

/** What a head reads beside hidden states. */
export type ClassifierInput = Pick<EncoderInput, "poolingWeights">;

/** A model that batches are made for. */
export interface EncoderModel {
  readonly config: EncoderConfig;
  /**
   * Position ids of a padded batch: ids [B, T], row-major. Throws when a sequence is too long for the model, with the
   * virtual tokens that a prompt puts in front now.
   */
  positionsOf(ids: Int32Array, length: number): Int32Array<ArrayBuffer>;
}

/** An encoder with a classification head, as training and prediction see it. */
export interface SequenceClassifier extends Module, EncoderModel {
  /** In the `architectures` of config.json. */
  readonly architecture: string;
  /** The encoder without its head. */
  readonly encoder: Module;
  /** What trains beside an adaptation. */
  readonly head: Module;
  /** A head of zeros for another number of classes: of another task on this encoder. */
  newHead(labels: number): Module;
  sites(): Site[];
  /** [B, T] -> hidden states [B, T, C]. */
  hidden(input: EncoderInput, options?: ForwardOptions): Tensor;
  /** Hidden states [B, T, C] -> logits [B, classes], by the model's own head or by one that `newHead` made. */
  classify(hidden: Tensor, input: ClassifierInput, options?: ForwardOptions, head?: Module): Tensor;
  /** [B, T] -> logits [B, classes]. */
  forward(input: EncoderInput, options?: ForwardOptions): Tensor;
}

/** An encoder that predicts the tokens under masks. */
export interface MaskedLanguageModel extends Module, EncoderModel {
  readonly architecture: string;
  readonly encoder: Module;
  /** [vocab_size, hidden_size]: the word embeddings, which are the decoder too. */
  readonly words: Embedding;
  sites(): Site[];
  /**
   * Logits over the vocabulary: [B, T, V], or [n, V] for the rows of [B·T] listed in `positions` (i32 [n]),
   * so that only masked tokens pay for the decoder.
   */
  forward(input: EncoderInput, options?: ForwardOptions, positions?: Tensor | null): Tensor;
}

export class EncoderEmbeddings extends Module {
  readonly word_embeddings: Embedding;
  readonly position_embeddings: Embedding;
  readonly token_type_embeddings: Embedding;
  readonly LayerNorm: LayerNorm;
  readonly #site: EmbeddedSite;
  readonly #p: number;
  readonly #firstPosition: number;

  /** `paddedPositions`: whether padding has a position of its own, as in RoBERTa, which then gets no gradient. */
  constructor(
    gpu: Gpu,
    c: EncoderConfig,
    { paddedPositions, name }: { readonly paddedPositions: boolean; readonly name: string },
  ) {
    super();
    const padding = { paddingIndex: c.pad_token_id };
    this.word_embeddings = new Embedding(gpu, c.vocab_size, c.hidden_size, padding);
    this.position_embeddings = new Embedding(
      gpu,
      c.max_position_embeddings,
      c.hidden_size,
      paddedPositions ? padding : {},
    );
    this.token_type_embeddings = new Embedding(gpu, c.type_vocab_size, c.hidden_size);
    this.LayerNorm = new LayerNorm(gpu, c.hidden_size, { eps: c.layer_norm_eps });
    const place = { name: `${name}.embedded`, layer: -1, role: "embedded" } as const;
    this.#site = new EmbeddedSite(place, this.word_embeddings.weight);
    this.#p = c.hidden_dropout_prob;
    this.#firstPosition = paddedPositions ? c.pad_token_id + 1 : 0;
  }

  sites(): Site[] {
    return [this.#site];
  }

  /** How many tokens go in front of every text: the sequences that layers see are longer by that. */
  get virtualTokens(): number {
    return this.#site.virtualTokens;
  }

  /** The input with places for the tokens in front: first positions, the first segment, seen by all. */
  withVirtualTokens(input: EncoderInput): EncoderInput {
    const P = this.virtualTokens;
    if (P === 0) return input;
    const { positionIds, attentionMask, tokenTypeIds } = input;
    return {
      ...input,
      positionIds: tidy(() => this.#clamped(positionsInFront(positionIds, P, this.#firstPosition))),
      attentionMask: seenInFront(attentionMask, P) as Tensor,
      tokenTypeIds: tokenTypeIds ? concat([sameIn(tokenTypeIds, P, 0), tokenTypeIds], 1) : null,
    };
  }

  /** BERT's padding may be beyond the last position, and then has that one: nothing looks at it. */
  #clamped(positions: Tensor): Tensor {
    if (this.#firstPosition > 0) return positions;
    const last = (this.position_embeddings.weight.shape[0] as number) - 1;
    return minimum(positions, full(positions.gpu, [1], last, { dtype: "i32" }));
  }

  /** Ids [B, T], the rest [B, P + T] -> [B, P + T, C]. */
  forward({ inputIds, positionIds, tokenTypeIds }: EncoderInput, options: ForwardOptions): Tensor {
    const sum = this.#site
      .apply(this.word_embeddings.forward(inputIds), options)
      .add(this.position_embeddings.forward(positionIds))
      .add(tokenTypeIds ? this.token_type_embeddings.forward(tokenTypeIds) : this.#firstType());
    return maybeDropout(this.LayerNorm.forward(sum), this.#p, options, "embeddings");
  }

  /** Row 0 for every token: [C]. */
  #firstType(): Tensor {
    const table = this.token_type_embeddings.weight;
    return table.slice(0, 0, 1).reshape(table.shape[1] as number);
  }
}

class SelfAttention extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly #sites: { readonly query: LinearSite; readonly key: LinearSite; readonly value: LinearSite };
  readonly #keysValues: KeysValuesSite;
  readonly #config: EncoderConfig;
  readonly #layer: number;

  constructor(gpu: Gpu, c: EncoderConfig, layer: number, name: string) {
    super();
    this.query = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.key = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.value = new Linear(gpu, c.hidden_size, c.hidden_size);
    const site = (role: "query" | "key" | "value"): LinearSite =>
      new LinearSite({ name: `${name}.${role}`, layer, role }, this[role]);
    this.#sites = { query: site("query"), key: site("key"), value: site("value") };
    this.#keysValues = new KeysValuesSite(
      { name: `${name}.keysValues`, layer, role: "keysValues" },
      { inputs: c.hidden_size, channels: c.hidden_size },
    );
    this.#config = c;
    this.#layer = layer;
  }

  sites(): Site[] {
    return [...Object.values(this.#sites), this.#keysValues];
  }

  forward(x: Tensor, seen: Tensor, options: ForwardOptions): Tensor {
    const q = this.#sites.query.forward(x, options);
    const own = {
      keys: this.#sites.key.forward(x, options),
      values: this.#sites.value.forward(x, options),
      mask: seen,
    };
    const { keys, values, mask } = this.#keysValues.apply(own, x, options);
    const p = this.#config.attention_probs_dropout_prob;
    const dropout =
      options.draw && p > 0 ? { p, draw: drawOf(options.draw, "attention", this.#layer) } : undefined;
    return attention(q, keys, values, mask, { heads: this.#config.num_attention_heads, dropout });
  }
}

/** Which sub-layer ends: roles of its linear layer and of its output, and how many inputs it has. */
interface EndOf {
  readonly linear: SiteRole;
  readonly output: SiteRole;
  readonly inputs: number;
}

/** A sub-layer's last steps: LayerNorm(dropout(adapt(dense(x))) + residual). */
class SublayerEnd extends Module {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  readonly #dense: LinearSite;
  readonly #site: OutputSite;
  readonly #p: number;

  constructor(gpu: Gpu, c: EncoderConfig, { linear, output, inputs }: EndOf, layer: number, name: string) {
    super();
    this.dense = new Linear(gpu, inputs, c.hidden_size);
    this.LayerNorm = new LayerNorm(gpu, c.hidden_size, { eps: c.layer_norm_eps });
    this.#dense = new LinearSite({ name: `${name}.dense`, layer, role: linear }, this.dense);
    this.#site = new OutputSite({ name, layer, role: output }, c.hidden_size, {
      activation: hiddenActivation(c),
    });
    this.#p = c.hidden_dropout_prob;
  }

  sites(): Site[] {
    return [this.#dense, this.#site];
  }

  forward(x: Tensor, residual: Tensor, options: ForwardOptions): Tensor {
    const output = { value: this.#dense.forward(x, options), residual, layerNorm: this.LayerNorm };
    const value = maybeDropout(this.#site.apply(output, options), this.#p, options, this.#site.name);
    return this.LayerNorm.forward(value, residual);
  }
}

class Attention extends Module {
  readonly self: SelfAttention;
  readonly output: SublayerEnd;

  constructor(gpu: Gpu, c: EncoderConfig, layer: number, name: string) {
    super();
    this.self = new SelfAttention(gpu, c, layer, `${name}.self`);
    const end = { linear: "attentionOutput", output: "attention", inputs: c.hidden_size } as const;
    this.output = new SublayerEnd(gpu, c, end, layer, `${name}.output`);
  }

  sites(): Site[] {
    return [...this.self.sites(), ...this.output.sites()];
  }
}

class Intermediate extends Module {
  readonly dense: Linear;
  readonly #site: LinearSite;
  readonly #activation: HiddenAct;

  constructor(gpu: Gpu, c: EncoderConfig, layer: number, name: string) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.intermediate_size);
    this.#site = new LinearSite({ name: `${name}.dense`, layer, role: "feedForwardInner" }, this.dense);
    this.#activation = hiddenActivation(c);
  }

  sites(): Site[] {
    return [this.#site];
  }

  forward(x: Tensor, options: ForwardOptions): Tensor {
    return this.#site.forward(x, options, this.#activation);
  }
}

class EncoderLayer extends Module {
  readonly attention: Attention;
  readonly intermediate: Intermediate;
  readonly output: SublayerEnd;

  constructor(gpu: Gpu, c: EncoderConfig, layer: number, name: string) {
    super();
    this.attention = new Attention(gpu, c, layer, `${name}.attention`);
    this.intermediate = new Intermediate(gpu, c, layer, `${name}.intermediate`);
    const inputs = c.intermediate_size;
    const end = { linear: "feedForwardOutput", output: "feedForward", inputs } as const;
    this.output = new SublayerEnd(gpu, c, end, layer, `${name}.output`);
  }

  sites(): Site[] {
    return [...this.attention.sites(), ...this.intermediate.sites(), ...this.output.sites()];
  }

  forward(x: Tensor, keep: Tensor, options: ForwardOptions): Tensor {
    const attended = this.attention.output.forward(this.attention.self.forward(x, keep, options), x, options);
    return this.output.forward(this.intermediate.forward(attended, options), attended, options);
  }
}

export class EncoderStack extends Module {
  readonly layer: readonly EncoderLayer[];

  constructor(gpu: Gpu, c: EncoderConfig, name: string) {
    super();
    this.layer = Array.from(
      { length: c.num_hidden_layers },
      (_, i) => new EncoderLayer(gpu, c, i, `${name}.layer.${i}`),
    );
  }

  sites(): Site[] {
    return this.layer.flatMap((layer) => layer.sites());
  }
}

/**
 * Embeddings and layers, one after the other. `onHidden` sees the embeddings and each layer's output, with the tokens
 * that an adaptation has put in front; the result is without them.
 */
export function encode(
  what: string,
  { embeddings, encoder }: { readonly embeddings: EncoderEmbeddings; readonly encoder: EncoderStack },
  input: EncoderInput,
  options: ForwardOptions,
  onHidden?: (hidden: Tensor) => void,
): Tensor {
  if (input.inputIds.shape.length !== 2) {
    throw new ShapeError(`${what}: inputIds ${showShape(input.inputIds.shape)}, expected [batch, length]`);
  }
  const P = embeddings.virtualTokens;
  const whole = embeddings.withVirtualTokens(input);
  let x = tidy(() => embeddings.forward(whole, options));
  onHidden?.(x);
  for (const layer of encoder.layer) {
    const before = x;
    x = throughLayer(before, options, (h) => layer.forward(h, whole.attentionMask, options));
    if (onHidden) onHidden(x);
    else before.dispose(); // What backward needs of it lives on.
  }
  if (P === 0) return x;
  const texts = x.slice(1, P, x.shape[1] as number);
  if (!onHidden) x.dispose();
  for (const tensor of [whole.positionIds, whole.attentionMask, whole.tokenTypeIds]) tensor?.dispose();
  return texts;
}
