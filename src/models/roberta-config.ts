import { FormatError } from "../io/index.ts";

/** The settings of a RoBERTa encoder, under the names of its config.json. */
export interface RobertaConfig {
  readonly model_type: "roberta";
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly intermediate_size: number;
  readonly max_position_embeddings: number;
  readonly type_vocab_size: number;
  readonly layer_norm_eps: number;
  readonly pad_token_id: number;
  readonly hidden_dropout_prob: number;
  readonly attention_probs_dropout_prob: number;
  /** What the classification head reads: the first token (as published) or the mean over all. */
  readonly classifier_pooling: "cls" | "mean";
  readonly num_labels: number;
  /** Names of the labels, by number. */
  readonly id2label: Readonly<Record<string, string>> | null;
}

/** Settings whose only supported value is known: another one would change results without a word. */
const FIXED: Readonly<Record<string, readonly unknown[]>> = {
  model_type: ["roberta"],
  hidden_act: ["gelu"],
  position_embedding_type: ["absolute"],
  is_decoder: [false],
  add_cross_attention: [false],
  tie_word_embeddings: [true],
};

/**
 * Reads a Hugging Face config.json. Throws FormatError for another architecture, a missing or impossible number,
 * or a setting that is not supported.
 */
export function parseRobertaConfig(json: unknown, overrides: Partial<RobertaConfig> = {}): RobertaConfig {
  if (typeof json !== "object" || json === null) throw new FormatError("config: not a JSON object");
  const source = json as Record<string, unknown>;
  if (source.model_type === undefined) throw new FormatError('config: no "model_type"; expected "roberta"');
  for (const [name, allowed] of Object.entries(FIXED)) {
    const value = source[name];
    if (value !== undefined && value !== null && !allowed.includes(value)) {
      throw new FormatError(
        `config: ${name} is ${JSON.stringify(value)}; supported: ${allowed.map((v) => JSON.stringify(v)).join(", ")}`,
      );
    }
  }
  const integer = (name: string, fallback?: number): number => number(source, name, fallback, true);
  const pooling = source.classifier_pooling ?? "cls";
  if (pooling !== "cls" && pooling !== "mean") {
    throw new FormatError(
      `config: classifier_pooling is ${JSON.stringify(pooling)}; supported: "cls", "mean"`,
    );
  }
  const id2label = (source.id2label as Record<string, string> | undefined) ?? null;
  const config: RobertaConfig = {
    model_type: "roberta",
    vocab_size: integer("vocab_size"),
    hidden_size: integer("hidden_size"),
    num_hidden_layers: integer("num_hidden_layers"),
    num_attention_heads: integer("num_attention_heads"),
    intermediate_size: integer("intermediate_size"),
    max_position_embeddings: integer("max_position_embeddings"),
    type_vocab_size: integer("type_vocab_size", 1),
    layer_norm_eps: number(source, "layer_norm_eps", 1e-5, false),
    pad_token_id: integer("pad_token_id", 1),
    hidden_dropout_prob: number(source, "hidden_dropout_prob", 0.1, false),
    attention_probs_dropout_prob: number(source, "attention_probs_dropout_prob", 0.1, false),
    classifier_pooling: pooling,
    num_labels: integer("num_labels", id2label ? Object.keys(id2label).length : 2),
    id2label,
    ...overrides,
  };
  if (config.hidden_size % config.num_attention_heads !== 0) {
    throw new FormatError(
      `config: hidden_size ${config.hidden_size} does not split into ${config.num_attention_heads} heads`,
    );
  }
  return config;
}

function number(
  source: Record<string, unknown>,
  name: string,
  fallback: number | undefined,
  whole: boolean,
): number {
  const value = source[name] ?? fallback;
  const good =
    typeof value === "number" && value >= 0 && Number.isFinite(value) && (!whole || Number.isInteger(value));
  if (!good)
    throw new FormatError(
      `config: ${name} is ${JSON.stringify(value)}, expected a ${whole ? "whole " : ""}number`,
    );
  return value;
}
