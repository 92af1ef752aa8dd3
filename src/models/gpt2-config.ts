import { ConfigReader, expectHeads, oneOrAll } from "./config-reader.ts";

const ACTIVATIONS = {
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  gelu: "gelu",
  relu: "relu",
  silu: "silu",
  swish: "silu",
  tanh: "tanh",
} as const;

export type Gpt2Activation = (typeof ACTIVATIONS)[keyof typeof ACTIVATIONS];

/** The settings of a GPT-2, under the names of its config.json. */
export interface Gpt2Config {
  readonly model_type: "gpt2";
  readonly vocab_size: number;
  readonly n_positions: number;
  readonly n_embd: number;
  readonly n_layer: number;
  readonly n_head: number;
  /** Channels inside the feed-forward part. */
  readonly n_inner: number;
  readonly activation_function: keyof typeof ACTIVATIONS;
  readonly layer_norm_epsilon: number;
  readonly scale_attn_weights: boolean;
  /** Whether the scores of layer i are divided by i + 1 as well. */
  readonly scale_attn_by_inverse_layer_idx: boolean;
  readonly tie_word_embeddings: boolean;
  readonly lm_head_bias: boolean;
  readonly embd_pdrop: number;
  readonly resid_pdrop: number;
  readonly attn_pdrop: number;
  /** The token that ends a text, several, or none. */
  readonly eos_token_id: number | readonly number[] | null;
}

/** Settings whose only supported value is known. */
const FIXED = {
  // In f32 the order of these two does not change the result.
  reorder_and_upcast_attn: [false, true],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
} as const;

/** Other names of settings: those of small checkpoints that call themselves "gpt2-like". */
const OTHER_NAMES = {
  model_type: "model",
  activation_function: "activation",
  tie_word_embeddings: "tied",
} as const;

/**
 * Reads a Hugging Face config.json. Also one with the key "model" ("gpt2" or "gpt2-like") in place of "model_type",
 * "activation" in place of "activation_function" and "tied" in place of "tie_word_embeddings"; "lm_head_bias" is
 * theirs too. Throws FormatError for another architecture, an impossible number or an unsupported setting.
 */
export function parseGpt2Config(json: unknown, overrides: Partial<Gpt2Config> = {}): Gpt2Config {
  const read = new ConfigReader(withUsualNames(json, overrides));
  read.architecture(["gpt2"]);
  read.expect(FIXED);
  const channels = read.number("n_embd", "size");
  const config: Gpt2Config = {
    model_type: "gpt2",
    vocab_size: read.number("vocab_size", "size"),
    n_positions: read.number("n_positions", "size"),
    n_embd: channels,
    n_layer: read.number("n_layer", "size"),
    n_head: read.number("n_head", "size"),
    n_inner: read.number("n_inner", "size", 4 * channels),
    activation_function: read.choice(
      "activation_function",
      Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[],
      "gelu_new",
    ),
    layer_norm_epsilon: read.number("layer_norm_epsilon", "positive", 1e-5),
    scale_attn_weights: read.flag("scale_attn_weights", true),
    scale_attn_by_inverse_layer_idx: read.flag("scale_attn_by_inverse_layer_idx", false),
    tie_word_embeddings: read.flag("tie_word_embeddings", true),
    lm_head_bias: read.flag("lm_head_bias", false),
    embd_pdrop: read.number("embd_pdrop", "share", 0.1),
    resid_pdrop: read.number("resid_pdrop", "share", 0.1),
    attn_pdrop: read.number("attn_pdrop", "share", 0.1),
    eos_token_id: oneOrAll(read.ids("eos_token_id")),
  };
  expectHeads("n_embd", config.n_embd, config.n_head);
  return config;
}

/** The name of the activation among the ops. */
export function gpt2Activation({ activation_function: name }: Gpt2Config): Gpt2Activation {
  return ACTIVATIONS[name];
}

function withUsualNames(json: unknown, overrides: Partial<Gpt2Config>): unknown {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
  const source: Record<string, unknown> = { ...json };
  for (const [usual, other] of Object.entries(OTHER_NAMES)) source[usual] ??= source[other];
  if (source.model_type === "gpt2-like") source.model_type = "gpt2";
  return { ...source, ...overrides };
}
