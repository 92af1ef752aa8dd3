import type { RobertaConfig } from "../models/index.ts";
import { openPretrained, type PretrainedFolder } from "../train/index.ts";
import { UsageError } from "./failure.ts";

/** Tokens that are enough for nearly every sentence of GLUE: the paper's length. */
const USUAL_LENGTH = 128;

/** Opens an encoder and checks that its tokenizer and its embeddings belong together. */
export function openEncoder(name: string): PretrainedFolder {
  const source = openPretrained(name);
  const { tokenizer, config } = source;
  if (tokenizer.vocabSize > config.vocab_size)
    throw new Error(
      `model: ${source.folder}: vocab.json has ${tokenizer.vocabSize} tokens, config.json says vocab_size ${config.vocab_size}`,
    );
  if (tokenizer.padId !== config.pad_token_id)
    throw new Error(
      `model: ${source.folder}: <pad> is token ${tokenizer.padId}, config.json says pad_token_id ${config.pad_token_id}`,
    );
  return source;
}

/** The longest sequence to cut texts to: `wanted`, or the usual one where the encoder has as many positions. */
export function lengthFor(config: RobertaConfig, wanted: number | null): number {
  const most = config.max_position_embeddings - config.pad_token_id - 1;
  if (wanted === null) return Math.min(USUAL_LENGTH, most);
  if (wanted <= most) return wanted;
  throw new UsageError(
    `training.maxLength is ${wanted}; the encoder has positions for ${most} tokens (give ${most} or less)`,
  );
}
