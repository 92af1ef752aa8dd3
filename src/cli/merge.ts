import type { Gpu } from "../array/index.ts";
import type { Encoded } from "../data/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import type { AdaptationSet } from "../peft/index.ts";
import { absolutePath, exists, joinPath } from "../platform/index.ts";
import {
  decidingScore,
  greedySoup,
  learnMerge,
  MergedView,
  readAdapterConfig,
  saveAdapter,
  type TaskScores,
} from "../train/index.ts";
import { encodedSplit, score } from "./evaluation.ts";
import { UsageError } from "./failure.ts";
import { digits, print, scoreLine, table } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { metricsOf, type TaskSource } from "./tasks.ts";
import { buildClassifier, openSaved } from "./trained.ts";

export const RECIPES = ["uniform", "learned", "greedy"] as const;
export type Recipe = (typeof RECIPES)[number];

export interface MergeCommand {
  readonly path: string;
  readonly by: Recipe;
  /** Folder of the merged adapter; else merged/ of the run. */
  readonly out: string | undefined;
  readonly force: boolean | undefined;
  /** Of learned weights. */
  readonly steps: number | undefined;
  readonly lr: number | undefined;
  readonly model: string | undefined;
  readonly device: string | undefined;
}

const BATCH = 16;

/** Merges the experts of a run anew, says what that does to the dev split, and writes the merged adapter. */
export async function merge(command: MergeCommand): Promise<void> {
  const { path, by } = command;
  const saved = await openSaved(path, { part: "checkpoint", model: command.model });
  const out = outOf(command);
  const encoding = { source: saved.source, maxLength: saved.maxLength };
  const dev = await encodedSplit(saved.task, "dev", encoding);
  const train = by === "learned" ? await encodedSplit(saved.task, "train", encoding) : [];
  await withGpu(command.device, async (gpu) => {
    const { model, set } = await buildClassifier(gpu, saved);
    if (!set?.isMixture) throw new UsageError(`merge: ${saved.folder} holds ${saved.method}: ${whyNot(set)}`);
    print(`adamix merge: ${saved.method} on ${saved.task.task}, ${by}, on ${describeDevice(gpu)}`);
    const view = new MergedView(model, set);
    const scored = () => score(gpu, model, dev, metricsOf(saved.task));
    const onDev = () => view.use(scored);
    print(`dev, uniform mean: ${scoreLine(await onDev())}`);
    await weigh(gpu, model, view, set, { command, train, scored, task: saved.task });
    if (by !== "uniform") print(`dev, ${by}: ${scoreLine(await onDev())}`);
    if (view.weights) print(weightTable(view));
    const { adamix: _, peft: __, ...provenance } = readAdapterConfig(saved.folder);
    const { experts, share } = set.method.config;
    const mergedFrom = { experts, share, by, weights: view.weights };
    await view.use(() => saveAdapter(out, model, view.set, { ...provenance, mergedFrom }));
    print(`written to ${out}`);
  });
}

/** Gives the view the weights of a recipe. */
async function weigh(
  gpu: Gpu,
  model: SequenceClassifier,
  view: MergedView,
  set: AdaptationSet,
  {
    command: { by, steps, lr },
    train,
    scored,
    task,
  }: {
    readonly command: MergeCommand;
    readonly train: readonly Encoded[];
    /** Scores on the dev split of the model as it is. */
    readonly scored: () => Promise<TaskScores>;
    readonly task: TaskSource;
  },
): Promise<void> {
  switch (by) {
    case "uniform":
      return;
    case "learned": {
      const own = { ...(steps !== undefined && { steps }), ...(lr !== undefined && { lr }) };
      const batchSize = Math.min(BATCH, train.length);
      view.weights = await learnMerge(gpu, model, set, { train, batchSize, seed: task.seed, ...own });
      return;
    }
    case "greedy": {
      // Ties of accuracy, which are many on small sets, go by the likelihood.
      const value = (scores: TaskScores): number =>
        decidingScore(metricsOf(task), scores) - 1e-3 * Math.tanh(scores.nll ?? scores.mse ?? 0);
      const { members } = await greedySoup(view, async () => value(await scored()));
      print(`in the soup: experts ${members.join(", ")}`);
      return;
    }
    default:
      return by satisfies never;
  }
}

function outOf({ path, out, force }: MergeCommand): string {
  const folder = absolutePath(path);
  if (out !== undefined) {
    const target = absolutePath(out);
    if (exists(target) && !force)
      throw new UsageError(`merge: ${target} is there; name another, or add --force`);
    return target;
  }
  if (exists(joinPath(folder, "checkpoint"))) return joinPath(folder, "merged");
  throw new UsageError(`merge: ${folder} is no run; say where the merged adapter goes with --out`);
}

function whyNot(set: AdaptationSet | null): string {
  if (set?.learned)
    return `its ${set.learned.router.name} router weighs experts for every token, which no mean of them does`;
  return "it has one expert on each side; there is nothing to merge";
}

function weightTable({ weights }: MergedView): string {
  const line = (values: readonly number[]): string =>
    values.length === 1 ? "one for all" : values.map(digits).join(" ");
  const rows = (weights ?? []).map(({ layer, down, up }) => [String(layer), line(down), line(up)]);
  return table(["layer", "weights down", "weights up"], rows, { left: true });
}
