import type { Gpu } from "../array/index.ts";
import { embedding, linear, Parameter, type Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import {
  type Embedding,
  type ForwardOptions,
  LayerNorm,
  Linear,
  Module,
  maybeDropout,
  type Site,
} from "../nn/index.ts";
import { type BertConfig, parseBertConfig } from "./bert-config.ts";
import {
  type ClassifierInput,
  EncoderEmbeddings,
  type EncoderInput,
  EncoderStack,
  encode,
  type MaskedLanguageModel,
  type SequenceClassifier,
} from "./encoder.ts";
import { type HiddenAct, headDropout, hiddenActivation } from "./encoder-config.ts";
import { defineFamily, modernName, withPrefix } from "./family.ts";

/**
 * Position ids of BERT: 0 to T-1 in every row, padding or not. ids [B, T], row-major. Padding beyond the last position
 * of the model has that position, since nothing looks at it; a token there is an error. `virtualTokens` go in front.
 */
export function bertPositions(
  ids: Int32Array,
  length: number,
  config: BertConfig,
  virtualTokens = 0,
): Int32Array<ArrayBuffer> {
  const last = config.max_position_embeddings - 1;
  const room = last + 1 - virtualTokens;
  const result = new Int32Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    const t = i % length;
    if (t >= room && ids[i] !== config.pad_token_id) {
      const taken = virtualTokens > 0 ? ` beside ${virtualTokens} virtual ones` : "";
      throw new ShapeError(
        `bert: a sequence of at least ${t + 1} tokens; the model has positions for ${room}${taken} (truncate to that)`,
      );
    }
    result[i] = Math.min(t, last);
  }
  return result;
}

/** The pooler: tanh(dense(h)) of the first token, [B, T, C] -> [B, C]. */
class BertPooler extends Module {
  readonly dense: Linear;

  constructor(gpu: Gpu, c: BertConfig) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.hidden_size);
  }

  forward(hidden: Tensor): Tensor {
    const [batch, , channels] = hidden.shape as [number, number, number];
    return this.dense.forward(hidden.slice(1, 0, 1).reshape(batch, channels), { activation: "tanh" });
  }
}

/** The encoder: embeddings, post-LayerNorm Transformer layers, and the pooler where a head reads it. */
export class BertModel extends Module {
  readonly embeddings: EncoderEmbeddings;
  readonly encoder: EncoderStack;
  readonly pooler: BertPooler | null;

  constructor(
    gpu: Gpu,
    c: BertConfig,
    { pooler = true, name = "bert" }: { pooler?: boolean; name?: string } = {},
  ) {
    super();
    this.embeddings = new EncoderEmbeddings(gpu, c, { paddedPositions: false, name });
    this.encoder = new EncoderStack(gpu, c, `${name}.encoder`);
    this.pooler = pooler ? new BertPooler(gpu, c) : null;
  }

  /** How many tokens a prompt puts in front of every text. */
  get virtualTokens(): number {
    return this.embeddings.virtualTokens;
  }

  sites(): Site[] {
    return [...this.encoder.sites(), ...this.embeddings.sites()];
  }

  /** [B, T] -> [B, T, C]. `onHidden` sees the embeddings and each layer's output. */
  forward(input: EncoderInput, options: ForwardOptions = {}, onHidden?: (hidden: Tensor) => void): Tensor {
    return encode("bert", this, input, options, onHidden);
  }

  /** Hidden states [B, T, C] -> the pooled first token [B, C]. */
  pool(hidden: Tensor): Tensor {
    if (!this.pooler) throw new ShapeError("bert: this model was made without a pooler");
    return this.pooler.forward(hidden);
  }
}

/**
 * BERT with a classification head, classifier(dropout(pooled)); with one label it is a regression. Checkpoint names:
 * `bert.…`, `classifier.…`. AdaMix trains the classifier and leaves the pooler as it was pretrained.
 */
export class BertForSequenceClassification extends Module implements SequenceClassifier {
  readonly bert: BertModel;
  readonly classifier: Linear;
  readonly #gpu: Gpu;
  readonly #config: BertConfig;

  constructor(gpu: Gpu, config: BertConfig) {
    super();
    this.bert = new BertModel(gpu, config);
    this.classifier = new Linear(gpu, config.hidden_size, config.num_labels);
    this.#gpu = gpu;
    this.#config = config;
  }

  /** Its name in config.json. */
  get architecture(): string {
    return "BertForSequenceClassification";
  }

  get config(): BertConfig {
    return this.#config;
  }

  get encoder(): BertModel {
    return this.bert;
  }

  get head(): Module {
    return this.classifier;
  }

  newHead(labels: number): Module {
    return new Linear(this.#gpu, this.#config.hidden_size, labels);
  }

  sites(): Site[] {
    return this.bert.sites();
  }

  positionsOf(ids: Int32Array, length: number): Int32Array<ArrayBuffer> {
    return bertPositions(ids, length, this.#config, this.bert.virtualTokens);
  }

  hidden(input: EncoderInput, options: ForwardOptions = {}): Tensor {
    return this.bert.forward(input, options);
  }

  classify(
    hidden: Tensor,
    _: ClassifierInput,
    options: ForwardOptions = {},
    head: Module = this.classifier,
  ): Tensor {
    if (!(head instanceof Linear))
      throw new ShapeError("bert: the head is none that newHead() of a BERT made");
    return tidy(() => {
      const pooled = this.bert.pool(hidden);
      return head.forward(maybeDropout(pooled, headDropout(this.#config), options, "head", 0));
    });
  }

  /** [B, T] -> logits [B, classes]. */
  forward(input: EncoderInput, options: ForwardOptions = {}): Tensor {
    return tidy(() => this.classify(this.hidden(input, options), input, options));
  }
}

/** LayerNorm(act(dense(h))), before the decoder. */
class BertTransform extends Module {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  readonly #activation: HiddenAct;

  constructor(gpu: Gpu, c: BertConfig) {
    super();
    this.dense = new Linear(gpu, c.hidden_size, c.hidden_size);
    this.LayerNorm = new LayerNorm(gpu, c.hidden_size, { eps: c.layer_norm_eps });
    this.#activation = hiddenActivation(c);
  }

  forward(hidden: Tensor): Tensor {
    return this.LayerNorm.forward(this.dense.forward(hidden, { activation: this.#activation }));
  }
}

class BertPredictions extends Module {
  readonly transform: BertTransform;
  readonly bias: Parameter;

  constructor(gpu: Gpu, c: BertConfig) {
    super();
    this.transform = new BertTransform(gpu, c);
    this.bias = Parameter.zeros(gpu, [c.vocab_size]);
  }
}

class BertHeads extends Module {
  readonly predictions: BertPredictions;

  constructor(gpu: Gpu, c: BertConfig) {
    super();
    this.predictions = new BertPredictions(gpu, c);
  }
}

/** BERT with its masked-language-model head. Checkpoint names: `bert.…`, `cls.predictions.…`. */
export class BertForMaskedLM extends Module implements MaskedLanguageModel {
  readonly bert: BertModel;
  readonly cls: BertHeads;
  readonly #config: BertConfig;

  constructor(gpu: Gpu, config: BertConfig) {
    super();
    this.bert = new BertModel(gpu, config, { pooler: false });
    this.cls = new BertHeads(gpu, config);
    this.#config = config;
  }

  /** Its name in config.json. */
  get architecture(): string {
    return "BertForMaskedLM";
  }

  get config(): BertConfig {
    return this.#config;
  }

  get encoder(): BertModel {
    return this.bert;
  }

  get words(): Embedding {
    return this.bert.embeddings.word_embeddings;
  }

  sites(): Site[] {
    return this.bert.sites();
  }

  positionsOf(ids: Int32Array, length: number): Int32Array<ArrayBuffer> {
    return bertPositions(ids, length, this.#config, this.bert.virtualTokens);
  }

  /**
   * Logits over the vocabulary: [B, T, V], or [n, V] for the rows of [B·T] listed in `positions` (i32 [n]),
   * so that only masked tokens pay for the decoder.
   */
  forward(input: EncoderInput, options: ForwardOptions = {}, positions: Tensor | null = null): Tensor {
    return tidy(() => {
      const hidden = this.bert.forward(input, options);
      const channels = hidden.shape.at(-1) as number;
      const rows = positions ? embedding(hidden.reshape(-1, channels), positions) : hidden;
      const { transform, bias } = this.cls.predictions;
      return linear(transform.forward(rows), this.words.weight, bias);
    });
  }
}

export const BERT = defineFamily<BertConfig>({
  modelType: "bert",
  architectures: ["BertModel", "BertForPreTraining", "BertForMaskedLM", "BertForSequenceClassification"],
  parseConfig: parseBertConfig,
  longest: ({ max_position_embeddings: positions }) => positions,
  rename: (name) => withPrefix(modernName(name), "bert"),
  heads: {
    "sequence-classification": {
      make: (gpu, config) => new BertForSequenceClassification(gpu, config),
      head: /^classifier\./,
      // Files of a bare masked language model have no pooler.
      mayBeAbsent: /^(classifier|bert\.pooler)\./,
      mayBeIgnored: /\.(position_ids|token_type_ids)$|^cls\./,
    },
    "masked-lm": {
      make: (gpu, config) => new BertForMaskedLM(gpu, config),
      head: /^cls\./,
      mayBeAbsent: /^$/,
      // The decoder is tied to the words and its bias to cls.predictions.bias; the rest is for other tasks.
      mayBeIgnored:
        /\.(position_ids|token_type_ids)$|^bert\.pooler\.|^classifier\.|^cls\.(seq_relationship|predictions\.decoder)\./,
    },
  },
});
