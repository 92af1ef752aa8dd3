export { type BeamContinuation, type BeamOptions, beamSearch } from "./beam-search.ts";
export {
  type CausalInput,
  type CausalLM,
  type CausalOptions,
  causalPositions,
} from "./causal-lm.ts";
export { type CausalLossOptions, causalLoss } from "./causal-loss.ts";
export {
  type Continuation,
  type GenerateOptions,
  generate,
  type NewToken,
  type SamplingOptions,
} from "./generate.ts";
export { Gpt2LMHeadModel, gpt2FromTensors } from "./gpt2.ts";
export { type Gpt2Config, parseGpt2Config } from "./gpt2-config.ts";
export { type CacheSize, KeyValueCache } from "./key-value-cache.ts";
export { LlamaForCausalLM, llamaFromTensors } from "./llama.ts";
export { type LlamaConfig, parseLlamaConfig } from "./llama-config.ts";
export { type Llama2cCheckpoint, readLlama2c } from "./llama2c.ts";
export {
  type EncoderInput,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  RobertaModel,
  robertaPositions,
} from "./roberta.ts";
export { parseRobertaConfig, type RobertaConfig } from "./roberta-config.ts";
