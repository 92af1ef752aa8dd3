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
  const source: Readonly<Record<string, unknown>> = { ...json, ...overrides };
  if ((source.model_type ?? null) === null)
    throw new FormatError('config: no "model_type"; expected "roberta"');
  for (const [name, allowed] of Object.entries(FIXED)) {
    const value = source[name];
    if (value !== undefined && value !== null && !allowed.includes(value)) {
      throw new FormatError(
        `config: ${name} is ${JSON.stringify(value)}; supported: ${allowed.map((v) => JSON.stringify(v)).join(", ")}`,
      );
    }
  }
  const read = (name: string, kind: Kind, fallback?: number): number => number(source, name, kind, fallback);
  const pooling = source.classifier_pooling ?? "cls";
  if (pooling !== "cls" && pooling !== "mean") {
    throw new FormatError(
      `config: classifier_pooling is ${JSON.stringify(pooling)}; supported: "cls", "mean"`,
    );
  }
  const id2label = (source.id2label as Record<string, string> | undefined) ?? null;
  const config: RobertaConfig = {
    model_type: "roberta",
    vocab_size: read("vocab_size", "size"),
    hidden_size: read("hidden_size", "size"),
    num_hidden_layers: read("num_hidden_layers", "size"),
    num_attention_heads: read("num_attention_heads", "size"),
    intermediate_size: read("intermediate_size", "size"),
    max_position_embeddings: read("max_position_embeddings", "size"),
    type_vocab_size: read("type_vocab_size", "size", 1),
    layer_norm_eps: read("layer_norm_eps", "number", 1e-5),
    pad_token_id: read("pad_token_id", "index", 1),
    hidden_dropout_prob: read("hidden_dropout_prob", "share", 0.1),
    attention_probs_dropout_prob: read("attention_probs_dropout_prob", "share", 0.1),
    classifier_pooling: pooling,
    num_labels: read("num_labels", "size", id2label ? Object.keys(id2label).length : 2),
    id2label,
  };
  if (config.hidden_size % config.num_attention_heads !== 0) {
    throw new FormatError(
      `config: hidden_size ${config.hidden_size} does not split into ${config.num_attention_heads} heads`,
    );
  }
  return config;
}

const KINDS = {
  size: { expected: "a whole number of 1 or more", fits: (n: number) => Number.isInteger(n) && n >= 1 },
  index: { expected: "a whole number", fits: (n: number) => Number.isInteger(n) && n >= 0 },
  share: { expected: "a share p, 0 <= p < 1", fits: (n: number) => n >= 0 && n < 1 },
  number: { expected: "a number of 0 or more", fits: (n: number) => Number.isFinite(n) && n >= 0 },
} as const;
type Kind = keyof typeof KINDS;

function number(
  source: Readonly<Record<string, unknown>>,
  name: string,
  kind: Kind,
  fallback: number | undefined,
): number {
  const value = source[name] ?? fallback;
  const { expected, fits } = KINDS[kind];
  if (typeof value === "number" && fits(value)) return value;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected ${expected}`);
}
