export {
  ADAPTER_FORMATS,
  type AdapterFile,
  type AdapterFormatName,
  type ExportOptions,
  exportAdapter,
  type ImportOptions,
  importAdapter,
} from "../formats/index.ts";
export type { Form as ProductForm, Stopwatch, TunedProduct, TuneOptions } from "../ops/index.ts";
export { type CostOptions, costOf, type MethodCost, parametersOf } from "./accounting.ts";
export { type AdapterMemory, Adapters, type TaskLogits } from "./adapters.ts";
export { BatchSlots, type LoadedBatch } from "./batch-slots.ts";
export { CapturedSteps, type CapturedStepsOptions } from "./captured-steps.ts";
export { type CausalFolder, type CausalLoadOptions, openCausalFolder } from "./causal-folder.ts";
export { f1Score, matthews, pearson, spearman } from "./correlations.ts";
export {
  type DecoderArchitecture,
  type DecoderRecipe,
  decoderRecipe,
} from "./decoder-recipe.ts";
export { DEMO_PRETRAINING, demoHeldOutSentences, demoTrainingSentences } from "./demo-sentences.ts";
export {
  DEMO_RECIPE,
  type EncoderRecipe,
  type PretrainedEncoder,
  pretrainEncoder,
} from "./encoder-recipe.ts";
export { type FineTuneOptions, fineTune, trainable } from "./fine-tune.ts";
export {
  type CompletionScores,
  type FineTuneCausalOptions,
  fineTuneCausal,
  scoreCompletions,
} from "./fine-tune-causal.ts";
export { folderTokenizer } from "./folder-tokenizer.ts";
export {
  allRoutes,
  INFERENCE_MODES,
  type Inference,
  type InferenceMode,
  type InferOptions,
  infer,
} from "./inference.ts";
export { InputSlots } from "./input-slots.ts";
export {
  checkKernelRecord,
  type KernelAdapter,
  type KernelRecord,
  type PassOrder,
  tuneKernels,
  useKernels,
} from "./kernel-record.ts";
export {
  describeFresh,
  EMBEDDED,
  type LoadedModel,
  type LoadModelOptions,
  loadModel,
  type ModelFolder,
  openModelFolder,
} from "./load-model.ts";
export {
  greedySoup,
  type LearnMergeCausalOptions,
  type LearnMergeOptions,
  learnMerge,
  learnMergeCausal,
  type Soup,
} from "./merge-recipes.ts";
export { MergedView } from "./merged.ts";
export {
  type ClassificationScores,
  probabilities,
  scoreEnsemble,
  scoreLogits,
  scoreProbabilities,
  spread,
} from "./metrics.ts";
export { type AdamWState, decodeAdamW, encodeAdamW } from "./optimiser-file.ts";
export { type PredictOptions, predict, predictRoutes } from "./predict.ts";
export { type PredictRowsOptions, predictRows } from "./predict-rows.ts";
export { evaluateMaskedLm, type PretrainOptions, pretrainMaskedLm } from "./pretrain.ts";
export {
  type CausalPretrainOptions,
  type CausalTrainingState,
  evaluateCausalLm,
  initCausalWeights,
  type PretrainSchedule,
  pretrainCausalLm,
} from "./pretrain-causal.ts";
export {
  CHECKPOINT_FILES,
  type DecoderHooks,
  type DecoderTexts,
  type DecoderTraining,
  END_OF_TEXT,
  type FolderFiles,
  type HeldOutScores,
  type PretrainedDecoder,
  pretrainDecoder,
} from "./pretrain-decoder.ts";
export type { PretrainReport } from "./pretrain-loop.ts";
export {
  type ClassifierOptions,
  encodeFor,
  loadClassifier,
  openPretrained,
  type PretrainedFolder,
  readTensors,
} from "./pretrained.ts";
export { type RouteScore, routeScores } from "./route-scores.ts";
export { KERNELS_FILE, RunFolder } from "./run-folder.ts";
export { type SavableModel, type SaveModelOptions, saveModel } from "./save-model.ts";
export {
  type AdaptedModel,
  type AdapterConfigFile,
  loadAdapter,
  type Provenance,
  readAdapterConfig,
  saveAdapter,
} from "./saved-adapter.ts";
export { decidingScore, scoreTask, type TaskMetrics, type TaskScores } from "./task-scores.ts";
export type {
  FineTuneResult,
  StepReport,
  TrainingConsistency,
  TrainingOptions,
} from "./training-loop.ts";
export { checkKernelOptions, type KernelOptions, type TuningOptions } from "./tuning.ts";
export { expectedCalibrationError, type Predictive, predictive } from "./uncertainty.ts";
