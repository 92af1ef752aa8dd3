export { type BeamContinuation, type BeamOptions, beamSearch } from "./beam-search.ts";
export {
  BERT,
  BertForMaskedLM,
  BertForSequenceClassification,
  BertModel,
  bertPositions,
} from "./bert.ts";
export { type BertConfig, parseBertConfig } from "./bert-config.ts";
export {
  type CausalInput,
  type CausalLM,
  type CausalOptions,
  causalPositions,
} from "./causal-lm.ts";
export { type CausalLossOptions, causalLoss } from "./causal-loss.ts";
export type { EncoderInput, EncoderModel, MaskedLanguageModel, SequenceClassifier } from "./encoder.ts";
export type { EncoderConfig } from "./encoder-config.ts";
export type { ModelFamily, ModelHead, ModelTask, TaskModels } from "./family.ts";
export {
  type Continuation,
  type GenerateOptions,
  generate,
  type NewToken,
  type SamplingOptions,
} from "./generate.ts";
export { GPT2, Gpt2LMHeadModel, gpt2FromTensors } from "./gpt2.ts";
export { type Gpt2Config, parseGpt2Config } from "./gpt2-config.ts";
export { type CacheSize, KeyValueCache } from "./key-value-cache.ts";
export { LLAMA, LlamaForCausalLM, llamaFromTensors, QWEN2 } from "./llama.ts";
export { type LlamaConfig, parseLlamaConfig, type RopeScaling } from "./llama-config.ts";
export { type Llama2cCheckpoint, readLlama2c } from "./llama2c.ts";
export { PUBLISHED_SIZES, publishedSize } from "./published-sizes.ts";
export { MODEL_FAMILIES, modelFamily, modelHead } from "./registry.ts";
export {
  ROBERTA,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  RobertaModel,
  robertaPositions,
} from "./roberta.ts";
export { parseRobertaConfig, type RobertaConfig } from "./roberta-config.ts";
