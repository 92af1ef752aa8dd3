import type { RotaryScaling } from "../autograd/index.ts";
import { FormatError } from "../io/index.ts";
import { configFlag, configIds, configModelType, expectSplit } from "./causal-config.ts";
import { type ConfigJson, checkFixed, configNumber, configObject } from "./config-values.ts";

/** The settings of a Llama or Qwen2, under the names of its config.json. */
export interface LlamaConfig {
  readonly model_type: "llama" | "qwen2";
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** Heads of keys and values, which neighbouring heads of queries share. */
  readonly num_key_value_heads: number;
  /** Channels of a head; heads need not make up hidden_size. */
  readonly head_dim: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly rope_scaling: RotaryScaling | null;
  readonly tie_word_embeddings: boolean;
  /** Biases of queries, keys and values. */
  readonly qkv_bias: boolean;
  /** Bias of the attention's output. */
  readonly output_bias: boolean;
  readonly mlp_bias: boolean;
  readonly attention_dropout: number;
  /** Tokens that end a text. */
  readonly eos_token_ids: readonly number[];
}

/** Settings whose only supported value is known. */
const FIXED = {
  hidden_act: ["silu"],
  // 1 splits nothing; above it some checkpoints ask for products in pieces, which give the same up to rounding.
  pretraining_tp: [1],
  use_sliding_window: [false],
  partial_rotary_factor: [1],
  rope_interleaved: [false],
  is_decoder: [true, false],
  add_cross_attention: [false],
} as const;

/**
 * Reads the config.json of a Llama (SmolLM is one) or Qwen2. Throws FormatError for another architecture, an impossible
 * number or an unsupported setting.
 */
export function parseLlamaConfig(json: unknown, overrides: Partial<LlamaConfig> = {}): LlamaConfig {
  const source = configObject(json, overrides);
  const type = configModelType(source, ["llama", "qwen2"]);
  checkFixed(source, FIXED);
  const rope = objectAt(source, "rope_parameters") ?? {};
  const heads = configNumber(source, "num_attention_heads", "size");
  const channels = configNumber(source, "hidden_size", "size");
  const hasSize = (source.head_dim ?? null) !== null;
  if (!hasSize) expectSplit("hidden_size", channels, heads, "heads");
  const attentionBias = configFlag(source, "attention_bias", false);
  const config: LlamaConfig = {
    model_type: type,
    vocab_size: configNumber(source, "vocab_size", "size"),
    hidden_size: channels,
    intermediate_size: configNumber(source, "intermediate_size", "size"),
    num_hidden_layers: configNumber(source, "num_hidden_layers", "size"),
    num_attention_heads: heads,
    num_key_value_heads: configNumber(source, "num_key_value_heads", "size", heads),
    head_dim: configNumber(source, "head_dim", "size", channels / heads),
    max_position_embeddings: configNumber(source, "max_position_embeddings", "size"),
    rms_norm_eps: configNumber(source, "rms_norm_eps", "number", 1e-6),
    rope_theta: configNumber({ ...rope, ...source }, "rope_theta", "number", 10_000),
    rope_scaling: overrides.rope_scaling ?? scalingOf(objectAt(source, "rope_scaling") ?? rope),
    tie_word_embeddings: configFlag(source, "tie_word_embeddings", false),
    qkv_bias: configFlag(source, "qkv_bias", type === "qwen2" || attentionBias),
    output_bias: configFlag(source, "output_bias", type === "llama" && attentionBias),
    mlp_bias: configFlag(source, "mlp_bias", false),
    attention_dropout: configNumber(source, "attention_dropout", "share", 0),
    eos_token_ids: overrides.eos_token_ids ?? configIds(source, "eos_token_id"),
  };
  expectSplit("num_attention_heads", heads, config.num_key_value_heads, "heads of keys");
  if (config.head_dim % 2 !== 0)
    throw new FormatError(`config: head_dim is ${config.head_dim}, expected an even number`);
  return config;
}

function objectAt(source: ConfigJson, name: string): ConfigJson | null {
  const value = source[name] ?? null;
  if (value === null) return null;
  if (typeof value === "object" && !Array.isArray(value)) return value as ConfigJson;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected an object`);
}

/** `{"rope_type": "llama3", "factor": 8, …}`; the type is called "type" in old files. */
function scalingOf(source: ConfigJson): RotaryScaling | null {
  const kind = source.rope_type ?? source.type ?? "default";
  if (kind === "default") return null;
  const value = (name: string, fallback?: number): number => configNumber(source, name, "number", fallback);
  if (kind === "linear") return { kind, factor: value("factor") };
  if (kind !== "llama3") {
    throw new FormatError(
      `config: rope_scaling of type ${JSON.stringify(kind)}; supported: "default", "linear", "llama3"`,
    );
  }
  return {
    kind,
    factor: value("factor"),
    lowFrequencyFactor: value("low_freq_factor"),
    highFrequencyFactor: value("high_freq_factor"),
    originalPositions: value("original_max_position_embeddings"),
  };
}
