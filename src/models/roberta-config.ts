import { type EncoderConfig, parseEncoderConfig } from "./encoder-config.ts";

/** The settings of a RoBERTa encoder, under the names of its config.json. */
export interface RobertaConfig extends EncoderConfig {
  readonly model_type: "roberta";
}

/**
 * Reads a Hugging Face config.json. Throws FormatError for another architecture, a missing or impossible number,
 * or a setting that is not supported.
 */
export function parseRobertaConfig(json: unknown, overrides: Partial<RobertaConfig> = {}): RobertaConfig {
  return parseEncoderConfig(json, overrides, {
    model_type: "roberta",
    type_vocab_size: 1,
    layer_norm_eps: 1e-5,
    pad_token_id: 1,
    poolings: ["cls", "mean"],
  });
}
