/** Data for training: tokenizers, readers, batches, masks, and the demonstration language. */

export {
  type Batch,
  type BucketedEpochsOptions,
  bucketedEpochs,
  type CollateOptions,
  collate,
  type Encoded,
  type Epochs,
  type EpochsOptions,
  epochs,
  paddedLength,
  sequentialBatches,
  validateIds,
  validateLabels,
} from "./batches.ts";
export { BPE_SPECIALS, type Bpe, type BpeOptions, mergesTxt, trainBpe, vocabJson } from "./bpe.ts";
export { characterTokenizer } from "./character-tokenizer.ts";
export {
  type CollateCompletionsOptions,
  type Completion,
  type CompletionBatch,
  type CompletionOptions,
  type CompletionText,
  collateCompletions,
  encodeCompletion,
  joinCompletion,
  readCompletions,
} from "./completions.ts";
export { type Eigenpairs, topEigenpairs } from "./eigen.ts";
export {
  GLUE_TASKS,
  type GlueMetric,
  type GlueSplit,
  type GlueTask,
  type GlueTaskInfo,
  readGlue,
} from "./glue.ts";
export { IGNORE, type MaskedBatch, type MaskingOptions, maskTokens } from "./masking.ts";
export { holdOut, type PackedBatch, PackedTexts, type PackOptions } from "./packing.ts";
export { createRng, mixSeed, permutation, type Rng, shuffle } from "./random.ts";
export { scoredTokenizer } from "./scored-tokenizer.ts";
export {
  entailmentTask,
  type LabelledSentence,
  type PretrainingOptions,
  pretrainingLines,
  repeatableSentences,
  SENTENCE_TASKS,
  SENTIMENT_LABELS,
  type SentenceTask,
  type SentenceTaskOptions,
  sentimentTask,
  topicTask,
} from "./sentences.ts";
export type { Split } from "./sentences-clauses.ts";
export { DOMAINS, type Domain, FEELINGS, type Polarity } from "./sentences-lexicon.ts";
export { type ProbeExample, type ProbeGroup, polarityProbe } from "./sentences-probe.ts";
export {
  type CooccurrenceOptions,
  cooccurrencePpmi,
  type SpectralOptions,
  spectralEmbeddings,
} from "./spectral.ts";
export {
  type Column,
  type LabelledText,
  type LabelSet,
  readJsonl,
  readTsv,
  type TableOptions,
} from "./tables.ts";
export type { Assembled } from "./template.ts";
export {
  type BpeTokenizerOptions,
  bpeTokenizer,
  type EncodeOptions,
  type SpecialIds,
  type SpecialNames,
  type Tokenizer,
} from "./tokenizer.ts";
export { tokenizerFromJson, wordPieceTokenizer } from "./tokenizer-formats.ts";
