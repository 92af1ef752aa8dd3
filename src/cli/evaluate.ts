import type { Gpu } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import type { Encoded } from "../data/index.ts";
import {
  expectedCalibrationError,
  type Inference,
  type InferenceMode,
  infer,
  predictive,
  scoreTask,
  type TaskMetrics,
  type TaskScores,
} from "../train/index.ts";
import { encodedSplit, labelsLine, labelsOf } from "./evaluation.ts";
import { UsageError } from "./failure.ts";
import { digits, grouped, print, scoreLine } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { metricsOf, resolveData, type Split } from "./tasks.ts";
import { buildClassifier, openSaved, type SavedClassifier } from "./trained.ts";

export interface EvaluateCommand {
  readonly path: string;
  /** A folder of data, or one file of the split; else the data that the run was trained with. */
  readonly data: string | undefined;
  readonly split: Split | undefined;
  readonly mode: InferenceMode;
  /** Runs of the random modes, routes of `ensemble`. */
  readonly routes: number | "all";
  readonly limit: number | undefined;
  /** The encoder, where it has moved. */
  readonly model: string | undefined;
  /** How the encoder is stored, if not as in training. */
  readonly dtype: SavedClassifier["dtype"] | undefined;
  readonly device: string | undefined;
}

/** Prints the task's scores and calibration of a saved classifier on one split, beside what the labels are like. */
export async function evaluate(command: EvaluateCommand): Promise<void> {
  const { path, mode, limit } = command;
  const saved = await openSaved(path, {
    part: mode === "merged" ? "merged" : "checkpoint",
    model: command.model,
    dtype: command.dtype,
  });
  const split = command.split ?? saved.split;
  const task =
    command.data === undefined ? saved.task : { ...saved.task, data: dataOf(command.data, saved, split) };
  const all = await encodedSplit(task, split, {
    source: saved.source,
    maxLength: saved.maxLength,
  });
  const examples = limit === undefined ? all : all.slice(0, limit);
  await withGpu(command.device, async (gpu) => {
    print(`adamix evaluate: ${saved.method} on ${task.task}, on ${describeDevice(gpu)}`);
    const inference = await inferWith(gpu, saved, examples, command);
    const [labels, metrics] = [labelsOf(examples), metricsOf(task)];
    const scores = scoresOf(mode, inference, labels, metrics);
    print(`${split}, ${describeMode(mode, inference.runs.length)}: ${scoreLine(scores)}`);
    const uncertainty = metrics.regression ? deviationLine(inference) : uncertaintyLine(inference, labels);
    if (uncertainty) print(uncertainty);
    print(`${grouped(examples.length)} examples; ${labelsLine(examples, metrics)}`);
  });
}

function dataOf(data: string, { task }: SavedClassifier, split: Split): SavedClassifier["task"]["data"] {
  const isFile = /\.(tsv|jsonl|txt)(\.gz)?$/.test(data);
  return resolveData(task.task, isFile ? { [split]: data } : data) ?? undefined;
}

async function inferWith(
  gpu: Gpu,
  saved: SavedClassifier,
  examples: readonly Encoded[],
  { mode, routes }: EvaluateCommand,
): Promise<Inference> {
  const { model, set } = await buildClassifier(gpu, saved);
  if (!set?.isMixture && mode !== "merged") {
    const why = set?.learned ? `a ${set.learned.router.name} router, which draws no routes` : saved.method;
    throw new UsageError(`--mode ${mode} is for mixtures; ${saved.folder} holds ${why}: use merged`);
  }
  const stream = Stream.seed(saved.task.seed).fold("evaluation");
  return infer(gpu, model, set, examples, { mode, routes, stream });
}

/** Of an ensemble those of its mean; of several random runs the mean of their scores. */
function scoresOf(
  mode: InferenceMode,
  { runs }: Inference,
  labels: number[],
  metrics: TaskMetrics,
): TaskScores {
  if (mode === "ensemble") return scoreTask(metrics, runs, labels);
  const scores = runs.map((run) => scoreTask(metrics, [run], labels));
  const mean = (name: string): number => scores.reduce((sum, s) => sum + (s[name] ?? 0), 0) / scores.length;
  return Object.fromEntries(Object.keys(scores[0] ?? {}).map((name) => [name, mean(name)]));
}

/** How far several runs differ in the numbers that they give; null of one. */
function deviationLine({ logits, runs }: Inference): string | null {
  if (runs.length === 1) return null;
  let squares = 0;
  for (const run of runs) for (const [i, value] of run.entries()) squares += (value - (logits[i] ?? 0)) ** 2;
  const deviation = Math.sqrt(squares / (runs.length * logits.length));
  return `deviation of a number between ${runs.length} runs ${digits(deviation)}`;
}

/** How far confidence is from accuracy, and with several runs how far they disagree. */
function uncertaintyLine({ runs }: Inference, labels: number[]): string {
  const classes = (runs[0]?.length ?? 0) / labels.length;
  const { mean, variance, disagreement } = predictive(runs, classes);
  const calibration = `expected calibration error ${digits(expectedCalibrationError(mean, labels))}`;
  if (runs.length === 1) return calibration;
  const average = (values: Float64Array): number => values.reduce((sum, x) => sum + x, 0) / values.length;
  const deviation = Math.sqrt(average(variance));
  return `${calibration} of the mean of ${runs.length} runs; deviation of a probability between them ${digits(deviation)}, disagreement ${digits(average(disagreement))} nats`;
}

function describeMode(mode: InferenceMode, runs: number): string {
  switch (mode) {
    case "merged":
      return "merged experts";
    case "random":
      return `mean of ${runs} random routes for each example`;
    case "random-token":
      return `mean of ${runs} random routes for each token`;
    case "fixed":
      return "first experts";
    case "ensemble":
      return `ensemble of ${runs} routes`;
    case "module-mean":
      return "mean of the modules of each layer";
    default:
      return mode satisfies never;
  }
}
