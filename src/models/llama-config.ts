import type { RotaryScaling } from "../autograd/index.ts";
import { FormatError } from "../io/index.ts";
import { ConfigReader, expectHeads, oneOrAll } from "./config-reader.ts";

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
  readonly rope_scaling: RopeScaling | null;
  readonly tie_word_embeddings: boolean;
  /** Biases of queries, keys and values, and of the output. Qwen2 has the first three whatever this says. */
  readonly attention_bias: boolean;
  readonly mlp_bias: boolean;
  readonly attention_dropout: number;
  /** The token that ends a text, several, or none. */
  readonly eos_token_id: number | readonly number[] | null;
}

/** How angles are changed for longer texts, see RotaryScaling. */
export type RopeScaling =
  | { readonly rope_type: "linear"; readonly factor: number }
  | {
      readonly rope_type: "llama3";
      readonly factor: number;
      readonly low_freq_factor: number;
      readonly high_freq_factor: number;
      readonly original_max_position_embeddings: number;
    };

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
  const read = new ConfigReader(isObject(json) ? { ...json, ...overrides } : json);
  const type = read.architecture(["llama", "qwen2"]);
  read.expect(FIXED);
  const heads = read.number("num_attention_heads", "size");
  const channels = read.number("hidden_size", "size");
  if (read.value("head_dim") === null) expectHeads("hidden_size", channels, heads);
  const keyHeads = read.number("num_key_value_heads", "size", heads);
  if (heads % keyHeads !== 0)
    throw new FormatError(
      `config: num_attention_heads ${heads} do not share num_key_value_heads ${keyHeads} evenly`,
    );
  const rope = new ConfigReader(objectAt(read, "rope_parameters") ?? {});
  const config: LlamaConfig = {
    model_type: type,
    vocab_size: read.number("vocab_size", "size"),
    hidden_size: channels,
    intermediate_size: read.number("intermediate_size", "size"),
    num_hidden_layers: read.number("num_hidden_layers", "size"),
    num_attention_heads: heads,
    num_key_value_heads: keyHeads,
    head_dim: read.number("head_dim", "size", channels / heads),
    max_position_embeddings: read.number("max_position_embeddings", "size"),
    rms_norm_eps: read.number("rms_norm_eps", "positive", 1e-6),
    rope_theta: read.number("rope_theta", "positive", rope.number("rope_theta", "positive", 10_000)),
    rope_scaling: scalingOf(
      new ConfigReader(objectAt(read, "rope_scaling") ?? objectAt(read, "rope_parameters") ?? {}),
    ),
    tie_word_embeddings: read.flag("tie_word_embeddings", false),
    attention_bias: read.flag("attention_bias", false),
    mlp_bias: read.flag("mlp_bias", false),
    attention_dropout: read.number("attention_dropout", "share", 0),
    eos_token_id: oneOrAll(read.ids("eos_token_id")),
  };
  if (config.head_dim % 2 !== 0)
    throw new FormatError(`config: head_dim is ${config.head_dim}, expected an even number`);
  return config;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectAt(read: ConfigReader, name: string): object | null {
  const value = read.value(name);
  if (value === null || isObject(value)) return value;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected an object`);
}

/** `{"rope_type": "llama3", "factor": 8, …}`; the type is called "type" in old files. */
function scalingOf(read: ConfigReader): RopeScaling | null {
  const type = read.value("rope_type") ?? read.value("type") ?? "default";
  if (type === "default") return null;
  const factor = (): number => read.number("factor", "positive");
  if (type === "linear") return { rope_type: type, factor: factor() };
  if (type !== "llama3") {
    throw new FormatError(
      `config: rope_scaling of type ${JSON.stringify(type)}; supported: "default", "linear", "llama3"`,
    );
  }
  return {
    rope_type: type,
    factor: factor(),
    low_freq_factor: read.number("low_freq_factor", "positive"),
    high_freq_factor: read.number("high_freq_factor", "positive"),
    original_max_position_embeddings: read.number("original_max_position_embeddings", "size"),
  };
}

/** The same under the engine's names. */
export function rotaryScaling({ rope_scaling: scaling }: LlamaConfig): RotaryScaling | null {
  if (!scaling) return null;
  if (scaling.rope_type === "linear") return { kind: "linear", factor: scaling.factor };
  return {
    kind: "llama3",
    factor: scaling.factor,
    lowFrequencyFactor: scaling.low_freq_factor,
    highFrequencyFactor: scaling.high_freq_factor,
    originalPositions: scaling.original_max_position_embeddings,
  };
}
