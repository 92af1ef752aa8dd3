import { type Gpu, showShape } from "../array/index.ts";
import {
  add,
  attention,
  drawOf,
  embedding,
  linear,
  matmul,
  Parameter,
  type Tensor,
  tidy,
} from "../autograd/index.ts";
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
import type { RobertaConfig } from "./roberta-config.ts";

/** A padded batch on the GPU: i32 [B, T] each; attentionMask is 0 at padding. */
export interface EncoderInput {
  readonly inputIds: Tensor;
  readonly positionIds: Tensor;
  readonly attentionMask: Tensor;
  /** f32 [B, 1, T]: 1 / length at tokens, 0 at padding. Only for heads that read the mean. */
  readonly poolingWeights: Tensor | null;
}

/**
 * Position ids of RoBERTa: tokens count from paddingId + 1, padding has paddingId. ids [B, T], row-major.
 * Throws when a sequence is longer than the positions of the model.
 */
export function robertaPositions(
  ids: Int32Array,
  length: number,
  config: RobertaConfig,
): Int32Array<ArrayBuffer> {
  const { pad_token_id: padding, max_position_embeddings: positions } = config;
  const result = new Int32Array(ids.length);
  for (let row = 0; row < ids.length; row += length) {
    let next = padding;
    for (let t = row; t < row + length; t++) result[t] = ids[t] === padding ? padding : ++next;
    if (next >= positions) {
      throw new ShapeError(
        `roberta: a sequence of ${next - padding} tokens; the model has positions for ${positions - padding - 1} (truncate to that)`,
      );
    }
  }
  return result;
}

class RobertaEmbeddings extends Module {
  readonly word_embeddings: Embedding;
  readonly position_embeddings: Embedding;
  readonly token_type_embeddings: Embedding;
  readonly LayerNorm: LayerNorm;
  readonly #p: number;

  constructor(gpu: Gpu, c: RobertaConfig) {
    super();
    const padding = { paddingIndex: c.pad_token_id };
    this.word_embeddings = new Embedding(gpu, c.vocab_size, c.hidden_size, padding);
    this.position_embeddings = new Embedding(gpu, c.max_position_embeddings, c.hidden_size, padding);
    this.token_type_embeddings = new Embedding(gpu, c.type_vocab_size, c.hidden_size);
    this.LayerNorm = new LayerNorm(gpu, c.hidden_size, { eps: c.layer_norm_eps });
    this.#p = c.hidden_dropout_prob;
  }

  /** [B, T] -> [B, T, C]. RoBERTa has one token type in use: row 0 for every token. */
  forward({ inputIds, positionIds }: EncoderInput, options: ForwardOptions): Tensor {
    const table = this.token_type_embeddings.weight;
    const type = table.slice(0, 0, 1).reshape(table.shape[1] as number);
    const sum = this.word_embeddings
      .forward(inputIds)
      .add(this.position_embeddings.forward(positionIds))
      .add(type);
    return maybeDropout(this.LayerNorm.forward(sum), this.#p, options, "embeddings");
  }
}

class RobertaSelfAttention extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly #sites: { readonly query: LinearSite; readonly key: LinearSite; readonly value: LinearSite };
  readonly #config: RobertaConfig;
  readonly #layer: number;

  constructor(gpu: Gpu, c: RobertaConfig, layer: number, name: string) {
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
class RobertaOutput extends Module {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  readonly #site: OutputSite;
  readonly #p: number;

  constructor(gpu: Gpu, c: RobertaConfig, inputs: number, layer: number, name: string) {
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
    return this.LayerNorm.forward(add(value, residual));
  }
}

class RobertaAttention extends Module {
  readonly self: RobertaSelfAttention;
  readonly output: RobertaOutput;

  constructor(gpu: Gpu, c: RobertaConfig, layer: number, name: string) {
    super();
    this.self = new RobertaSelfAttention(gpu, c, layer, `${name}.self`);
    this.output = new RobertaOutput(gpu, c, c.hidden_size, layer, `${name}.output`);
  }
}

class RobertaIntermediate extends Module {
  readonly dense: Linear;

  constructor(gpu: Gpu, c: RobertaConfig) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.intermediate_size);
  }
}

class RobertaLayer extends Module {
  readonly attention: RobertaAttention;
  readonly intermediate: RobertaIntermediate;
  readonly output: RobertaOutput;

  constructor(gpu: Gpu, c: RobertaConfig, layer: number, name: string) {
    super();
    this.attention = new RobertaAttention(gpu, c, layer, `${name}.attention`);
    this.intermediate = new RobertaIntermediate(gpu, c);
    this.output = new RobertaOutput(gpu, c, c.intermediate_size, layer, `${name}.output`);
  }

  sites(): Site[] {
    return [...this.attention.self.sites(), ...this.attention.output.sites(), ...this.output.sites()];
  }

  forward(x: Tensor, keep: Tensor, options: ForwardOptions): Tensor {
    const attended = this.attention.output.forward(this.attention.self.forward(x, keep, options), x, options);
    const inner = this.intermediate.dense.forward(attended, { activation: "gelu" });
    return this.output.forward(inner, attended, options);
  }
}

class RobertaEncoder extends Module {
  readonly layer: readonly RobertaLayer[];

  constructor(gpu: Gpu, c: RobertaConfig, name: string) {
    super();
    this.layer = Array.from(
      { length: c.num_hidden_layers },
      (_, i) => new RobertaLayer(gpu, c, i, `${name}.layer.${i}`),
    );
  }
}

/** The encoder: embeddings and post-LayerNorm Transformer layers. Dropout acts where a draw is passed. */
export class RobertaModel extends Module {
  readonly embeddings: RobertaEmbeddings;
  readonly encoder: RobertaEncoder;

  constructor(gpu: Gpu, c: RobertaConfig, name = "roberta") {
    super();
    this.embeddings = new RobertaEmbeddings(gpu, c);
    this.encoder = new RobertaEncoder(gpu, c, `${name}.encoder`);
  }

  sites(): Site[] {
    return this.encoder.layer.flatMap((layer) => layer.sites());
  }

  /** [B, T] -> [B, T, C]. `onHidden` sees the embeddings and each layer's output. */
  forward(input: EncoderInput, options: ForwardOptions = {}, onHidden?: (hidden: Tensor) => void): Tensor {
    if (input.inputIds.shape.length !== 2) {
      throw new ShapeError(`roberta: inputIds ${showShape(input.inputIds.shape)}, expected [batch, length]`);
    }
    let x = tidy(() => this.embeddings.forward(input, options));
    onHidden?.(x);
    for (const layer of this.encoder.layer) {
      const before = x;
      x = tidy(() => layer.forward(before, input.attentionMask, options));
      if (onHidden) onHidden(x);
      else before.dispose(); // What backward needs of it lives on.
    }
    return x;
  }
}

/** The classification head: out(dropout(tanh(dense(dropout(features))))). */
class RobertaClassificationHead extends Module {
  readonly dense: Linear;
  readonly out_proj: Linear;
  readonly #config: RobertaConfig;

  constructor(gpu: Gpu, c: RobertaConfig) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.out_proj = new Linear(gpu, c.hidden_size, c.num_labels);
    this.#config = c;
  }

  /** Hidden states [B, T, C] -> logits [B, classes]. */
  forward(hidden: Tensor, weights: Tensor | null, options: ForwardOptions): Tensor {
    const { hidden_dropout_prob: p, classifier_pooling: pooling } = this.#config;
    const [batch, , channels] = hidden.shape as [number, number, number];
    if (pooling === "mean" && !weights)
      throw new ShapeError("roberta: a head that reads the mean needs poolingWeights");
    const pooled = pooling === "mean" && weights ? matmul(weights, hidden) : hidden.slice(1, 0, 1);
    const features = maybeDropout(pooled.reshape(batch, channels), p, options, "head", 0);
    const inner = this.dense.forward(features, { activation: "tanh" });
    return this.out_proj.forward(maybeDropout(inner, p, options, "head", 1));
  }
}

/** RoBERTa with a classification head. Checkpoint names: `roberta.…`, `classifier.{dense,out_proj}.…`. */
export class RobertaForSequenceClassification extends Module {
  readonly roberta: RobertaModel;
  readonly classifier: RobertaClassificationHead;
  readonly #config: RobertaConfig;

  constructor(gpu: Gpu, config: RobertaConfig) {
    super();
    this.roberta = new RobertaModel(gpu, config);
    this.classifier = new RobertaClassificationHead(gpu, config);
    this.#config = config;
  }

  get config(): RobertaConfig {
    return this.#config;
  }

  sites(): Site[] {
    return this.roberta.sites();
  }

  /** [B, T] -> logits [B, classes]. */
  forward(input: EncoderInput, options: ForwardOptions = {}): Tensor {
    return tidy(() =>
      this.classifier.forward(this.roberta.forward(input, options), input.poolingWeights, options),
    );
  }
}

/** The masked-language-model head; its decoder is the word embedding. */
class RobertaLMHead extends Module {
  readonly dense: Linear;
  readonly layer_norm: LayerNorm;
  readonly bias: Parameter;

  constructor(gpu: Gpu, c: RobertaConfig) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.layer_norm = new LayerNorm(gpu, c.hidden_size, { eps: c.layer_norm_eps });
    this.bias = Parameter.from(gpu, new Float32Array(c.vocab_size), [c.vocab_size]);
  }

  forward(hidden: Tensor, words: Tensor): Tensor {
    const inner = this.dense.forward(hidden, { activation: "gelu" });
    return linear(this.layer_norm.forward(inner), words, this.bias);
  }
}

/** RoBERTa with its masked-language-model head. Checkpoint names: `roberta.…`, `lm_head.…`. */
export class RobertaForMaskedLM extends Module {
  readonly roberta: RobertaModel;
  readonly lm_head: RobertaLMHead;
  readonly #config: RobertaConfig;

  constructor(gpu: Gpu, config: RobertaConfig) {
    super();
    this.roberta = new RobertaModel(gpu, config);
    this.lm_head = new RobertaLMHead(gpu, config);
    this.#config = config;
  }

  get config(): RobertaConfig {
    return this.#config;
  }

  sites(): Site[] {
    return this.roberta.sites();
  }

  /**
   * Logits over the vocabulary: [B, T, V], or [n, V] for the rows of [B·T] listed in `positions` (i32 [n]),
   * so that only masked tokens pay for the decoder.
   */
  forward(input: EncoderInput, options: ForwardOptions = {}, positions: Tensor | null = null): Tensor {
    return tidy(() => {
      const hidden = this.roberta.forward(input, options);
      const channels = hidden.shape.at(-1) as number;
      const rows = positions ? embedding(hidden.reshape(-1, channels), positions) : hidden;
      return this.lm_head.forward(rows, this.roberta.embeddings.word_embeddings.weight);
    });
  }
}
