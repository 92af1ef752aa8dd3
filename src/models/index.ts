export {
  BERT,
  BertForMaskedLM,
  BertForSequenceClassification,
  BertModel,
  bertPositions,
} from "./bert.ts";
export { type BertConfig, parseBertConfig } from "./bert-config.ts";
export type { EncoderInput, EncoderModel, MaskedLanguageModel, SequenceClassifier } from "./encoder.ts";
export type { EncoderConfig } from "./encoder-config.ts";
export type { ModelFamily, ModelHead, ModelTask, TaskModels } from "./family.ts";
export { MODEL_FAMILIES, modelFamily, modelHead } from "./registry.ts";
export {
  ROBERTA,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  RobertaModel,
  robertaPositions,
} from "./roberta.ts";
export { parseRobertaConfig, type RobertaConfig } from "./roberta-config.ts";
