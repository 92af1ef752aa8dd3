import type { Gpu } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import type { Encoded } from "../data/index.ts";
import { fixedRouter, type Router, uniformRouter } from "../peft/index.ts";
import { type ClassificationScores, predictRoutes, scoreEnsemble, scoreLogits } from "../train/index.ts";
import { encodedSplit, labelsOf, score } from "./evaluation.ts";
import { UsageError } from "./failure.ts";
import { digits, grouped, majorityShare, print, scoreLine } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { resolveData, type Split } from "./tasks.ts";
import { buildClassifier, openSaved, type SavedClassifier } from "./trained.ts";

export const MODES = ["merged", "random", "fixed", "ensemble"] as const;
export type Mode = (typeof MODES)[number];

export interface EvaluateCommand {
  readonly path: string;
  /** A folder of data, or one file of the split; else the data that the run was trained with. */
  readonly data: string | undefined;
  readonly split: Split | undefined;
  readonly mode: Mode;
  /** Sampled routes of `random` and `ensemble`. */
  readonly routes: number;
  readonly limit: number | undefined;
  /** The encoder, where it has moved. */
  readonly model: string | undefined;
  /** How the encoder is stored, if not as in training. */
  readonly dtype: SavedClassifier["dtype"] | undefined;
  readonly device: string | undefined;
}

/** Prints accuracy and nll of a saved classifier on one split of its task, beside the majority class. */
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
    const scores = await scoreMode(gpu, saved, examples, command);
    print(`${split}, ${describeMode(mode, command.routes)}: ${scoreLine(scores)}`);
    print(
      `${grouped(examples.length)} examples; majority class ${digits(majorityShare(labelsOf(examples)))}`,
    );
  });
}

function dataOf(data: string, { task }: SavedClassifier, split: Split): SavedClassifier["task"]["data"] {
  const isFile = /\.(tsv|jsonl|txt)(\.gz)?$/.test(data);
  return resolveData(task.task, isFile ? { [split]: data } : data) ?? undefined;
}

async function scoreMode(
  gpu: Gpu,
  saved: SavedClassifier,
  examples: readonly Encoded[],
  { mode, routes }: EvaluateCommand,
): Promise<ClassificationScores> {
  const { model, set } = await buildClassifier(gpu, saved);
  if (!set?.isMixture) {
    if (mode !== "merged")
      throw new UsageError(
        `--mode ${mode} is for mixtures; ${saved.folder} holds ${saved.method}: use merged`,
      );
    return score(gpu, model, examples);
  }
  if (mode === "merged")
    throw new UsageError(
      `${saved.folder} holds a mixture that is not merged: use --mode random, fixed or ensemble`,
    );
  const router: Router =
    mode === "fixed" ? fixedRouter(0) : uniformRouter(Stream.seed(saved.task.seed).fold("evaluation"));
  const count = mode === "fixed" ? 1 : routes;
  const runs = await predictRoutes(gpu, model, set, examples, { router, count });
  const labels = labelsOf(examples);
  return mode === "ensemble"
    ? scoreEnsemble(runs, labels)
    : meanOf(runs.map((run) => scoreLogits(run, labels)));
}

function meanOf(scores: readonly ClassificationScores[]): ClassificationScores {
  const mean = (pick: (s: ClassificationScores) => number) =>
    scores.reduce((sum, s) => sum + pick(s), 0) / scores.length;
  return { accuracy: mean((s) => s.accuracy), nll: mean((s) => s.nll) };
}

function describeMode(mode: Mode, routes: number): string {
  switch (mode) {
    case "merged":
      return "merged experts";
    case "random":
      return `mean of ${routes} random routes`;
    case "fixed":
      return "first experts";
    case "ensemble":
      return `ensemble of ${routes} routes`;
    default:
      return mode satisfies never;
  }
}
