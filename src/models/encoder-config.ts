import { FormatError } from "../io/index.ts";
import { ConfigReader, expectHeads } from "./config-reader.ts";

/** Activations of the feed-forward part, under the names that config.json has for them. */
export const HIDDEN_ACTS = {
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  relu: "relu",
  silu: "silu",
  swish: "silu",
} as const;
export type HiddenAct = (typeof HIDDEN_ACTS)[keyof typeof HIDDEN_ACTS];

/** The settings that BERT and RoBERTa share, under the names of config.json. */
export interface EncoderConfig {
  readonly model_type: string;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly intermediate_size: number;
  /** Default "gelu". */
  readonly hidden_act?: keyof typeof HIDDEN_ACTS;
  readonly max_position_embeddings: number;
  readonly type_vocab_size: number;
  readonly layer_norm_eps: number;
  readonly pad_token_id: number;
  readonly hidden_dropout_prob: number;
  readonly attention_probs_dropout_prob: number;
  /** Dropout of the classification head; null: hidden_dropout_prob. */
  readonly classifier_dropout?: number | null;
  /** What the classification head reads: the first token (as published) or the mean over all. */
  readonly classifier_pooling: "cls" | "mean";
  /** Width of the logits; 1 is a regression. */
  readonly num_labels: number;
  /** Names of the labels, by number. */
  readonly id2label: Readonly<Record<string, string>> | null;
}

/** What a family does where config.json says nothing, and what it supports. */
export interface EncoderDefaults<Type extends string> {
  readonly model_type: Type;
  readonly type_vocab_size: number;
  readonly layer_norm_eps: number;
  readonly pad_token_id: number;
  readonly poolings: readonly EncoderConfig["classifier_pooling"][];
}

const FIXED = {
  position_embedding_type: ["absolute"],
  is_decoder: [false],
  add_cross_attention: [false],
  tie_word_embeddings: [true],
} as const;

/** Reads the config.json of a family; see parseRobertaConfig and parseBertConfig. */
export function parseEncoderConfig<Type extends string>(
  json: unknown,
  overrides: object,
  defaults: EncoderDefaults<Type>,
): EncoderConfig & { readonly model_type: Type } {
  const read = new ConfigReader(typeof json === "object" && json ? { ...json, ...overrides } : json);
  read.architecture([defaults.model_type]);
  read.expect(FIXED);
  refusePruned(read);
  const id2label = read.value("id2label") as Record<string, string> | null;
  const config = {
    model_type: defaults.model_type,
    vocab_size: read.number("vocab_size", "size"),
    hidden_size: read.number("hidden_size", "size"),
    num_hidden_layers: read.number("num_hidden_layers", "size"),
    num_attention_heads: read.number("num_attention_heads", "size"),
    intermediate_size: read.number("intermediate_size", "size"),
    hidden_act: read.choice("hidden_act", Object.keys(HIDDEN_ACTS) as (keyof typeof HIDDEN_ACTS)[], "gelu"),
    max_position_embeddings: read.number("max_position_embeddings", "size"),
    type_vocab_size: read.number("type_vocab_size", "size", defaults.type_vocab_size),
    layer_norm_eps: read.number("layer_norm_eps", "positive", defaults.layer_norm_eps),
    pad_token_id: read.number("pad_token_id", "index", defaults.pad_token_id),
    hidden_dropout_prob: read.number("hidden_dropout_prob", "share", 0.1),
    attention_probs_dropout_prob: read.number("attention_probs_dropout_prob", "share", 0.1),
    classifier_dropout:
      read.value("classifier_dropout") === null ? null : read.number("classifier_dropout", "share"),
    classifier_pooling: read.choice("classifier_pooling", defaults.poolings, "cls"),
    num_labels: read.number("num_labels", "size", id2label ? Object.keys(id2label).length : 2),
    id2label,
  };
  expectHeads("hidden_size", config.hidden_size, config.num_attention_heads);
  checkProblem(read.value("problem_type"), config.num_labels);
  return config;
}

/** One label is a regression, several are classes: what else config.json may ask for has no loss here. */
function checkProblem(problem: unknown, labels: number): void {
  if (problem === null) return;
  const own = labels === 1 ? "regression" : "single_label_classification";
  if (problem !== own) {
    throw new FormatError(
      `config: problem_type is ${JSON.stringify(problem)} with ${labels} label${labels === 1 ? "" : "s"}; supported: "${own}"`,
    );
  }
}

function refusePruned(read: ConfigReader): void {
  const layers = Object.keys((read.value("pruned_heads") ?? {}) as object);
  if (layers.length > 0)
    throw new FormatError(`config: pruned_heads names layers ${layers.join(", ")}; supported: {}`);
}

/** The activation of the feed-forward part, under its name among the ops. */
export function hiddenActivation({ hidden_act }: EncoderConfig): HiddenAct {
  return HIDDEN_ACTS[hidden_act ?? "gelu"];
}

/** Dropout before the last linear layer of a classification head. */
export function headDropout(config: EncoderConfig): number {
  return config.classifier_dropout ?? config.hidden_dropout_prob;
}
