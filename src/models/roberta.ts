import type { Gpu } from "../array/index.ts";
import { embedding, linear, matmul, Parameter, type Tensor, tidy } from "../autograd/index.ts";
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
import {
  type ClassifierInput,
  EncoderEmbeddings,
  type EncoderInput,
  EncoderStack,
  encode,
  type MaskedLanguageModel,
  type SequenceClassifier,
} from "./encoder.ts";
import { headDropout } from "./encoder-config.ts";
import { defineFamily, modernName, withPrefix } from "./family.ts";
import { parseRobertaConfig, type RobertaConfig } from "./roberta-config.ts";

/**
 * Position ids of RoBERTa: tokens count from paddingId + 1, padding has paddingId. ids [B, T], row-major.
 * Throws when a sequence is longer than the positions of the model, of which `virtualTokens` in front take some.
 */
export function robertaPositions(
  ids: Int32Array,
  length: number,
  config: RobertaConfig,
  virtualTokens = 0,
): Int32Array<ArrayBuffer> {
  const { pad_token_id: padding, max_position_embeddings: positions } = config;
  const result = new Int32Array(ids.length);
  for (let row = 0; row < ids.length; row += length) {
    let next = padding;
    for (let t = row; t < row + length; t++) result[t] = ids[t] === padding ? padding : ++next;
    const room = positions - padding - 1 - virtualTokens;
    if (next - padding > room) {
      const taken = virtualTokens > 0 ? ` beside ${virtualTokens} virtual ones` : "";
      throw new ShapeError(
        `roberta: a sequence of ${next - padding} tokens; the model has positions for ${room}${taken} (truncate to that)`,
      );
    }
  }
  return result;
}

/** The encoder: embeddings and post-LayerNorm Transformer layers. Dropout acts where a draw is passed. */
export class RobertaModel extends Module {
  readonly embeddings: EncoderEmbeddings;
  readonly encoder: EncoderStack;

  constructor(gpu: Gpu, c: RobertaConfig, name = "roberta") {
    super();
    this.embeddings = new EncoderEmbeddings(gpu, c, { paddedPositions: true, name });
    this.encoder = new EncoderStack(gpu, c, `${name}.encoder`);
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
    return encode("roberta", this, input, options, onHidden);
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
    const p = headDropout(this.#config);
    const pooling = this.#config.classifier_pooling;
    const [batch, , channels] = hidden.shape as [number, number, number];
    if (pooling === "mean" && !weights)
      throw new ShapeError("roberta: a head that reads the mean needs poolingWeights");
    const pooled = pooling === "mean" && weights ? matmul(weights, hidden) : hidden.slice(1, 0, 1);
    const features = maybeDropout(pooled.reshape(batch, channels), p, options, "head", 0);
    const inner = this.dense.forward(features, { activation: "tanh" });
    return this.out_proj.forward(maybeDropout(inner, p, options, "head", 1));
  }
}

/**
 * RoBERTa with a classification head; with one label it is a regression. Checkpoint names: `roberta.…`,
 * `classifier.{dense,out_proj}.…`.
 */
export class RobertaForSequenceClassification extends Module implements SequenceClassifier {
  readonly roberta: RobertaModel;
  readonly classifier: RobertaClassificationHead;
  readonly #gpu: Gpu;
  readonly #config: RobertaConfig;

  constructor(gpu: Gpu, config: RobertaConfig) {
    super();
    this.roberta = new RobertaModel(gpu, config);
    this.classifier = new RobertaClassificationHead(gpu, config);
    this.#gpu = gpu;
    this.#config = config;
  }

  /** Its name in config.json. */
  get architecture(): string {
    return "RobertaForSequenceClassification";
  }

  get config(): RobertaConfig {
    return this.#config;
  }

  get encoder(): RobertaModel {
    return this.roberta;
  }

  get head(): Module {
    return this.classifier;
  }

  newHead(labels: number): Module {
    return new RobertaClassificationHead(this.#gpu, { ...this.#config, num_labels: labels });
  }

  sites(): Site[] {
    return this.roberta.sites();
  }

  positionsOf(ids: Int32Array, length: number): Int32Array<ArrayBuffer> {
    return robertaPositions(ids, length, this.#config, this.roberta.virtualTokens);
  }

  hidden(input: EncoderInput, options: ForwardOptions = {}): Tensor {
    return this.roberta.forward(input, options);
  }

  classify(
    hidden: Tensor,
    { poolingWeights }: ClassifierInput,
    options: ForwardOptions = {},
    head: Module = this.classifier,
  ): Tensor {
    if (!(head instanceof RobertaClassificationHead))
      throw new ShapeError("roberta: the head is none that newHead() of a RoBERTa made");
    return tidy(() => head.forward(hidden, poolingWeights, options));
  }

  /** [B, T] -> logits [B, classes]. */
  forward(input: EncoderInput, options: ForwardOptions = {}): Tensor {
    return tidy(() => this.classify(this.hidden(input, options), input, options));
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
    this.bias = Parameter.zeros(gpu, [c.vocab_size]);
  }

  forward(hidden: Tensor, words: Tensor): Tensor {
    const inner = this.dense.forward(hidden, { activation: "gelu" });
    return linear(this.layer_norm.forward(inner), words, this.bias);
  }
}

/** RoBERTa with its masked-language-model head. Checkpoint names: `roberta.…`, `lm_head.…`. */
export class RobertaForMaskedLM extends Module implements MaskedLanguageModel {
  readonly roberta: RobertaModel;
  readonly lm_head: RobertaLMHead;
  readonly #config: RobertaConfig;

  constructor(gpu: Gpu, config: RobertaConfig) {
    super();
    this.roberta = new RobertaModel(gpu, config);
    this.lm_head = new RobertaLMHead(gpu, config);
    this.#config = config;
  }

  /** Its name in config.json. */
  get architecture(): string {
    return "RobertaForMaskedLM";
  }

  get config(): RobertaConfig {
    return this.#config;
  }

  get encoder(): RobertaModel {
    return this.roberta;
  }

  get words(): Embedding {
    return this.roberta.embeddings.word_embeddings;
  }

  sites(): Site[] {
    return this.roberta.sites();
  }

  positionsOf(ids: Int32Array, length: number): Int32Array<ArrayBuffer> {
    return robertaPositions(ids, length, this.#config, this.roberta.virtualTokens);
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
      return this.lm_head.forward(rows, this.words.weight);
    });
  }
}

const LM_HEAD = /^lm_head\./;
/** Parts of published files that no model here has: a buffer, the bare model's pooler, the decoder tied to the words. */
const UNUSED = String.raw`\.(position_ids|token_type_ids)$|^roberta\.pooler\.`;

export const ROBERTA = defineFamily<RobertaConfig>({
  modelType: "roberta",
  architectures: ["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"],
  parseConfig: parseRobertaConfig,
  longest: ({ max_position_embeddings: positions, pad_token_id: padding }) => positions - padding - 1,
  rename: (name) => withPrefix(modernName(name), "roberta"),
  heads: {
    "sequence-classification": {
      make: (gpu, config) => new RobertaForSequenceClassification(gpu, config),
      head: /^classifier\./,
      mayBeAbsent: /^classifier\./,
      mayBeIgnored: new RegExp(`${UNUSED}|${LM_HEAD.source}`),
    },
    "masked-lm": {
      make: (gpu, config) => new RobertaForMaskedLM(gpu, config),
      head: LM_HEAD,
      mayBeAbsent: /^$/,
      mayBeIgnored: new RegExp(String.raw`${UNUSED}|^classifier\.|^lm_head\.decoder\.`),
    },
  },
});
