// The layers that BERT and RoBERTa share: a post-LayerNorm Transformer encoder under the published names.
import { type Gpu, showShape } from "../array/index.ts";
import { attention, drawOf, type Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import {
  Embedding,
  type ForwardOptions,
  LayerNorm,
  Linear,
  LinearSite,
  Module,
  maybeDropout,
  OutputSite,
  type Site,
} from "../nn/index.ts";
import { type EncoderConfig, HIDDEN_ACTS, type HiddenAct } from "./encoder-config.ts";

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

/** A model that batches are made for. */
export interface EncoderModel {
  readonly config: EncoderConfig;
  /** Position ids of a padded batch: ids [B, T], row-major. Throws when a sequence is too long for the model. */
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
  sites(): Site[];
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
  readonly #p: number;

  /** `paddedPositions`: whether padding has a position of its own, as in RoBERTa, which then gets no gradient. */
  constructor(gpu: Gpu, c: EncoderConfig, { paddedPositions }: { readonly paddedPositions: boolean }) {
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
    this.#p = c.hidden_dropout_prob;
  }

  /** [B, T] -> [B, T, C]. */
  forward({ inputIds, positionIds, tokenTypeIds }: EncoderInput, options: ForwardOptions): Tensor {
    const sum = this.word_embeddings
      .forward(inputIds)
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
  readonly #config: EncoderConfig;
  readonly #layer: number;

  constructor(gpu: Gpu, c: EncoderConfig, layer: number, name: string) {
    super();
    this.query = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.key = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.value = new Linear(gpu, c.hidden_size, c.hidden_size);
    const site = (part: "query" | "key" | "value"): LinearSite =>
      new LinearSite({ name: `${name}.${part}`, layer }, this[part]);
    this.#sites = { query: site("query"), key: site("key"), value: site("value") };
    this.#config = c;
    this.#layer = layer;
  }

  sites(): Site[] {
    return Object.values(this.#sites);
  }

  forward(x: Tensor, keep: Tensor, options: ForwardOptions): Tensor {
    const q = this.#sites.query.apply(this.query.forward(x), x, options);
    const k = this.#sites.key.apply(this.key.forward(x), x, options);
    const v = this.#sites.value.apply(this.value.forward(x), x, options);
    const p = this.#config.attention_probs_dropout_prob;
    const dropout =
      options.draw && p > 0 ? { p, draw: drawOf(options.draw, "attention", this.#layer) } : undefined;
    return attention(q, k, v, keep, { heads: this.#config.num_attention_heads, dropout });
  }
}

/** A sub-layer's last steps: LayerNorm(dropout(adapt(dense(x))) + residual). */
class SublayerEnd extends Module {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  readonly #site: OutputSite;
  readonly #p: number;

  constructor(gpu: Gpu, c: EncoderConfig, inputs: number, layer: number, name: string) {
    super();
    this.dense = new Linear(gpu, inputs, c.hidden_size);
    this.LayerNorm = new LayerNorm(gpu, c.hidden_size, { eps: c.layer_norm_eps });
    this.#site = new OutputSite({ name, layer }, c.hidden_size);
    this.#p = c.hidden_dropout_prob;
  }

  sites(): Site[] {
    return [this.#site];
  }

  forward(x: Tensor, residual: Tensor, options: ForwardOptions): Tensor {
    const output = { value: this.dense.forward(x), residual, layerNorm: this.LayerNorm };
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
    this.output = new SublayerEnd(gpu, c, c.hidden_size, layer, `${name}.output`);
  }
}

class Intermediate extends Module {
  readonly dense: Linear;

  constructor(gpu: Gpu, c: EncoderConfig) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.intermediate_size);
  }
}

class EncoderLayer extends Module {
  readonly attention: Attention;
  readonly intermediate: Intermediate;
  readonly output: SublayerEnd;
  readonly #activation: HiddenAct;

  constructor(gpu: Gpu, c: EncoderConfig, layer: number, name: string) {
    super();
    this.attention = new Attention(gpu, c, layer, `${name}.attention`);
    this.intermediate = new Intermediate(gpu, c);
    this.output = new SublayerEnd(gpu, c, c.intermediate_size, layer, `${name}.output`);
    this.#activation = HIDDEN_ACTS[c.hidden_act ?? "gelu"];
  }

  sites(): Site[] {
    return [...this.attention.self.sites(), ...this.attention.output.sites(), ...this.output.sites()];
  }

  forward(x: Tensor, keep: Tensor, options: ForwardOptions): Tensor {
    const attended = this.attention.output.forward(this.attention.self.forward(x, keep, options), x, options);
    const inner = this.intermediate.dense.forward(attended, { activation: this.#activation });
    return this.output.forward(inner, attended, options);
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

/** Embeddings and layers, one after the other; `onHidden` sees the embeddings and each layer's output. */
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
  let x = tidy(() => embeddings.forward(input, options));
  onHidden?.(x);
  for (const layer of encoder.layer) {
    const before = x;
    x = tidy(() => layer.forward(before, input.attentionMask, options));
    if (onHidden) onHidden(x);
    else before.dispose(); // What backward needs of it lives on.
  }
  return x;
}
