import {
  createRng,
  type Encoded,
  GLUE_TASKS,
  type GlueSplit,
  type GlueTask,
  type LabelledText,
  mixSeed,
  permutation,
  readGlue,
  readJsonl,
  readTsv,
  SENTIMENT_LABELS,
  type TableOptions,
} from "../data/index.ts";
import { absolutePath, exists, fileInfo, joinPath } from "../platform/index.ts";
import type { TaskMetrics } from "../train/index.ts";
import {
  demoHeldOutSentences,
  demoTrainingSentences,
  encodeFor,
  type PretrainedFolder,
} from "../train/index.ts";
import type { Columns, DataPaths } from "./config.ts";
import { UsageError } from "./failure.ts";
import { findFile, readTextFile } from "./text-files.ts";

export type Split = GlueSplit;

/** What says which examples a task has: kept with a trained adapter, so that evaluation finds them again. */
export interface TaskSource {
  readonly task: string;
  readonly labels: readonly string[];
  readonly data?: DataPaths | undefined;
  readonly columns?: Columns | undefined;
  /** Draws the training sentences of the embedded task. */
  readonly seed: number;
}

/** What the one output of a task is called that learns numbers. */
const SCORE = ["score"];

/** The label names of a task; those declared, for files of one's own. One name stands for numbers: a regression. */
export function taskLabels(task: string, declared: readonly string[] | undefined): readonly string[] {
  if (task === "text") {
    if (!declared)
      throw new UsageError(
        "labels is missing: task text needs them, as in labels: [bad, good]; one name where labels are numbers",
      );
    if (new Set(declared).size < declared.length)
      throw new UsageError(`labels: ${declared.join(", ")}: a name comes twice`);
    return declared;
  }
  if (declared) throw new UsageError(`labels: task ${task} has its own; they are for task text`);
  return task === "sentiment" ? SENTIMENT_LABELS : (GLUE_TASKS[task as GlueTask].labels ?? SCORE);
}

/** What a task is scored by. */
export function metricsOf({ task, labels }: Pick<TaskSource, "task" | "labels">): TaskMetrics {
  const regression = labels.length === 1;
  if (Object.hasOwn(GLUE_TASKS, task)) return { metrics: GLUE_TASKS[task as GlueTask].metrics, regression };
  return { metrics: regression ? ["pearson", "spearman"] : ["accuracy"], regression };
}

const SPLITS: readonly Split[] = ["train", "dev", "test"];

/** Names of a split's file in a folder of data. */
function fileNames(task: string, split: Split): string[] {
  if (task === "text") return [`${split}.tsv`, `${split}.jsonl`];
  if (task === "mnli" && split !== "train") return [`${split}_matched.tsv`, `${split}.tsv`];
  if (task === "mnlimm" && split !== "train") return [`${split}_mismatched.tsv`];
  if (task === "stsb" && split === "test") return ["test.tsv", "sts-test.tsv"];
  if (task === "mrpc" && split === "test") return ["test.tsv", "msr_paraphrase_test.txt"];
  return [`${split}.tsv`];
}

/** Absolute paths of the files; of those that a folder holds. Null for the embedded task. */
export function resolveData(task: string, data: string | DataPaths | null): DataPaths | null {
  if (task === "sentiment") {
    if (data !== null) throw new UsageError("data: task sentiment brings its own sentences; leave data out");
    return null;
  }
  if (data === null)
    throw new UsageError(`data is missing: the folder of task ${task}, or its train and dev files`);
  const found: Partial<Record<Split, string>> = {};
  if (typeof data !== "string") {
    for (const split of SPLITS) if (data[split]) found[split] = absolutePath(data[split]);
    return found;
  }
  const folder = absolutePath(data);
  if (!exists(folder)) throw new Error(`data: there is no ${folder}`);
  if (!fileInfo(folder)?.isFolder)
    throw new UsageError(`data: ${folder} is a file; name the files under data.train and data.dev`);
  for (const split of SPLITS) {
    const path = findFile(fileNames(task, split).map((name) => joinPath(folder, name)));
    if (path) found[split] = path;
  }
  if (Object.keys(found).length === 0)
    throw new Error(`data: ${folder} has no ${SPLITS.flatMap((split) => fileNames(task, split)).join(", ")}`);
  return found;
}

/** The examples of one split, all labelled. */
export async function readExamples(source: TaskSource, split: Split): Promise<LabelledText[]> {
  if (source.task === "sentiment")
    return split === "train" ? demoTrainingSentences(source.seed) : demoHeldOutSentences(split);
  const path = source.data?.[split];
  if (!path)
    throw new Error(
      `data: task ${source.task} is given no ${split} file; name one with data.${split}, or --data`,
    );
  const text = await readTextFile(path);
  const examples = source.task === "text" ? readOwn(source, text, path) : readTask(source, text, path, split);
  if (examples.length === 0) throw new Error(`data: ${path} has no examples`);
  if (examples.some(({ label }) => label === null))
    throw new Error(`data: ${path} has no labels to score with`);
  return examples;
}

function readTask({ task }: TaskSource, text: string, path: string, split: Split): LabelledText[] {
  try {
    const examples = readGlue(task as GlueTask, text, { split });
    // The texts of SST-2 end in a blank, which no tokenizer should see.
    return task === "sst2"
      ? examples.map((example) => ({ ...example, text: example.text.trimEnd() }))
      : examples;
  } catch (cause) {
    throw new Error(`${path}: ${(cause as Error).message}`, { cause });
  }
}

function readOwn({ labels, columns }: TaskSource, text: string, path: string): LabelledText[] {
  const given = Object.entries(columns ?? {}).filter(([, column]) => column !== undefined);
  const options: TableOptions = {
    labels: labels.length === 1 ? "regression" : labels,
    file: path,
    columns: Object.fromEntries(given),
  };
  return /\.jsonl(\.gz)?$/.test(path) ? readJsonl(text, options) : readTsv(text, options);
}

/** The first `n` examples after a shuffle by the seed; all where `n` is null or larger. */
export function limited<T>(examples: readonly T[], n: number | null, seed: number): readonly T[] {
  if (n === null || n >= examples.length) return examples;
  const order = permutation(examples.length, createRng(mixSeed(seed, 0x11417)));
  return Array.from(order.subarray(0, n), (i) => examples[i] as T); // a permutation's entries are in range
}

export function encodeExamples(
  source: PretrainedFolder,
  examples: readonly LabelledText[],
  maxLength: number,
): Encoded[] {
  return examples.map(({ text, pair, label }) => ({
    ...encodeFor(source, text, pair ?? null, { maxLength }),
    label,
  }));
}
