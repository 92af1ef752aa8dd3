import type { Gpu } from "../array/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import { countParameters } from "../nn/index.ts";
import { type AdaptationSet, diagnose } from "../peft/index.ts";
import {
  encodeAdamW,
  type FineTuneResult,
  type MergedView,
  type Provenance,
  type RunFolder,
  saveAdapter,
  spread,
  type TaskScores,
} from "../train/index.ts";
import { labelsOf } from "./evaluation.ts";
import { majorityShare } from "./report.ts";
import { describeDevice, versions } from "./session.ts";
import type { Prepared } from "./train-setup.ts";

/** Numbers of parameters. */
export interface ParameterCounts {
  /** Trained beside the head. */
  readonly training: number;
  /** What is left of them once experts are merged. */
  readonly merged: number;
  readonly head: number;
  /** The encoder without head and adaptation. */
  readonly base: number;
}

export function countsOf(
  model: SequenceClassifier,
  set: AdaptationSet | null,
  merged: AdaptationSet | null,
): ParameterCounts {
  const own = model.encoder.parameters();
  const unfrozen = countParameters(own.filter(({ requiresGrad }) => requiresGrad));
  return {
    training: unfrozen + countParameters(set?.parameters() ?? []),
    merged: unfrozen + countParameters(merged?.parameters() ?? []),
    head: countParameters(model.head.parameters()),
    base: countParameters(own),
  };
}

export interface TrainedState {
  readonly model: SequenceClassifier;
  readonly set: AdaptationSet | null;
  readonly view: MergedView;
  readonly trained: FineTuneResult;
  readonly scores: TaskScores;
  readonly counts: ParameterCounts;
}

/** Writes checkpoint/, merged/ and, last, summary.json. */
export async function writeResults(
  gpu: Gpu,
  run: RunFolder,
  prepared: Prepared,
  { model, set, view, trained, scores, counts }: TrainedState,
): Promise<void> {
  const { config, steps, train, dev, metrics } = prepared;
  const provenance = provenanceOf(prepared);
  const { best } = trained;
  const state = {
    step: steps,
    seed: config.training.seed,
    // Parameters are those of the best evaluation, moments those after the last step.
    parametersOfStep: best?.step ?? steps,
    momentsOfStep: steps,
    best,
  };
  const extra = new Map<string, Uint8Array | string>([
    ["optimizer.safetensors", encodeAdamW(await trained.optimiser.state())],
    ["state.json", `${JSON.stringify(state, null, 2)}\n`],
  ]);
  await saveAdapter(run.folder("checkpoint"), model, set, provenance, extra);
  const { experts, share } = set?.method.config ?? {};
  const mergedFrom = set?.isMixture ? { mergedFrom: { experts, share, by: "uniform" } } : {};
  await view.use(() => saveAdapter(run.folder("merged"), model, view.set, { ...provenance, ...mergedFrom }));
  run.write("summary.json", {
    task: config.task,
    method: config.method,
    dev: {
      examples: dev.length,
      ...scores,
      ...(metrics.regression
        ? { labels: spread(labelsOf(dev)) }
        : { majority: majorityShare(labelsOf(dev)) }),
    },
    best,
    steps,
    trainExamples: train.length,
    parameters: counts,
    ...(set?.isMixture && { experts: { drawn: trained.drawn, banks: await diagnose(set) } }),
    millisecondsPerStep: trained.millisecondsPerStep,
    trainingSeconds: (trained.millisecondsPerStep * steps) / 1000,
    adapter: describeDevice(gpu),
    versions: versions(),
  });
}

/** What `evaluate` and `predict` need to build the classifier and find its examples again. */
function provenanceOf({ config, labels, maxLength }: Prepared): Provenance {
  const { model, task, data, columns, pooling, method, dtype, training } = config;
  return {
    base: model,
    labels,
    task,
    data: data ?? null,
    columns: columns ?? null,
    overrides: pooling === null ? {} : { classifier_pooling: pooling },
    maxLength,
    method,
    dtype,
    seed: training.seed,
  };
}
