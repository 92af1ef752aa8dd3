import { type EncoderConfig, parseEncoderConfig } from "./encoder-config.ts";

/** The settings of a BERT encoder, under the names of its config.json. */
export interface BertConfig extends EncoderConfig {
  readonly model_type: "bert";
}

/**
 * Reads a Hugging Face config.json. Throws FormatError for another architecture, a missing or impossible number,
 * or a setting that is not supported. The head reads the pooler, so `classifier_pooling` is "cls".
 */
export function parseBertConfig(json: unknown, overrides: Partial<BertConfig> = {}): BertConfig {
  return parseEncoderConfig(json, overrides, {
    model_type: "bert",
    type_vocab_size: 2,
    layer_norm_eps: 1e-12,
    pad_token_id: 0,
    poolings: ["cls"],
  });
}
