export {
  type EncoderInput,
  RobertaForMaskedLM,
  RobertaForSequenceClassification,
  RobertaModel,
  robertaPositions,
} from "./roberta.ts";
export { parseRobertaConfig, type RobertaConfig } from "./roberta-config.ts";
