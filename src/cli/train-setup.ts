import type { Gpu } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import type { Encoded } from "../data/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import { AdaptationSet, type PeftMethod, warmUpWeight } from "../peft/index.ts";
import type {
  FineTuneOptions,
  KernelRecord,
  PretrainedFolder,
  TaskMetrics,
  TrainingConsistency,
} from "../train/index.ts";
import { lengthFor, loadEncoder, openEncoder } from "./encoder.ts";
import { encodedSplit } from "./evaluation.ts";
import { readKernels } from "./kernels.ts";
import { methodOf, routerOf } from "./methods.ts";
import type { TrainConfig } from "./presets.ts";
import { limited, metricsOf, taskLabels } from "./tasks.ts";

/** All that training needs, read and checked before a device is opened or anything is written. */
export interface Prepared {
  readonly config: TrainConfig;
  readonly source: PretrainedFolder;
  readonly labels: readonly string[];
  /** What the task is scored by. */
  readonly metrics: TaskMetrics;
  readonly maxLength: number;
  readonly train: readonly Encoded[];
  readonly dev: readonly Encoded[];
  readonly method: PeftMethod;
  readonly steps: number;
  /** Kernels of another run; null: the fixed table's, or tuned ones. */
  readonly kernels: KernelRecord | null;
}

/** Reads and checks the encoder and the examples. */
export async function prepare(config: TrainConfig): Promise<Prepared> {
  const { task, data, columns, training } = config;
  const method = methodOf(config);
  const kernels = config.kernels === null ? null : readKernels(config.kernels);
  const source = await openEncoder(config.model);
  const maxLength = lengthFor(source, training.maxLength, method.virtualTokens);
  const labels = taskLabels(task, config.labels);
  const taskSource = { task, labels, data, columns, seed: training.seed };
  const encoding = { source, maxLength };
  const all = await encodedSplit(taskSource, "train", encoding);
  const dev = await encodedSplit(taskSource, "dev", encoding);
  const examples = limited(all, training.limitTrain, training.seed);
  const steps = training.steps ?? Math.ceil(((training.epochs ?? 1) * examples.length) / training.batchSize);
  const metrics = metricsOf({ task, labels });
  return { config, source, labels, metrics, maxLength, train: examples, dev, method, steps, kernels };
}

/** The model on the device, and the method's set attached to it. */
export async function buildModel(
  gpu: Gpu,
  { config, source, labels, method }: Prepared,
): Promise<{ readonly model: SequenceClassifier; readonly set: AdaptationSet }> {
  const { seed, dropout } = config.training;
  const overrides = {
    ...(config.pooling !== null && { classifier_pooling: config.pooling }),
    ...(dropout !== null && { hidden_dropout_prob: dropout, attention_probs_dropout_prob: dropout }),
  };
  const model = await loadEncoder(gpu, source, { labels, seed, overrides, dtype: config.dtype });
  const stream = Stream.seed(seed);
  const set = new AdaptationSet(gpu, model, method, { stream, router: routerOf(config) });
  return { model, set };
}

/** The settings of fineTune. */
export function optionsOf({ config, train: examples, steps, kernels }: Prepared): FineTuneOptions {
  const { batchSize, lr, warmupRatio, seed, weightDecay, undrawn, clipNorm, passesInOneBatch } =
    config.training;
  return {
    train: examples,
    steps,
    batchSize,
    lr,
    warmupSteps: Math.ceil(warmupRatio * steps),
    seed,
    clipNorm,
    optimiser: { weightDecay, undrawn },
    routing: config.peft?.routing ?? "batch",
    tune: config.tune,
    ...(kernels && { kernels }),
    ...(passesInOneBatch !== null && { passesInOneBatch }),
    ...(config.consistency && { consistency: consistencyOf(config.consistency) }),
  };
}

function consistencyOf({
  weight,
  warmupSteps,
  ...rest
}: NonNullable<TrainConfig["consistency"]>): TrainingConsistency {
  return { ...rest, weight: warmupSteps > 0 ? warmUpWeight(weight, warmupSteps) : weight };
}

export function stepsOfEpoch({ train: examples, config }: Prepared): number {
  return Math.ceil(examples.length / config.training.batchSize);
}
