import { z } from "zod";
import type { Gpu } from "../array/index.ts";
import type { EncoderConfig, SequenceClassifier } from "../models/index.ts";
import { type AdaptationSet, methodFromConfig } from "../peft/index.ts";
import { absolutePath, exists, joinPath } from "../platform/index.ts";
import {
  type AdapterConfigFile,
  loadAdapter,
  type PretrainedFolder,
  readAdapterConfig,
} from "../train/index.ts";
import { describeIssues } from "./config-issues.ts";
import { lengthFor, loadEncoder, openEncoder } from "./encoder.ts";
import { UsageError } from "./failure.ts";
import type { Split, TaskSource } from "./tasks.ts";

const CONFIG = "adapter_config.json";

const paths = z.record(z.string(), z.string());
const column = z.union([z.string(), z.number()]);

/** What adapter_config.json must say beside the method, so that the classifier can be built again. */
const provenance = z.looseObject({
  base: z.string().min(1),
  labels: z.array(z.string()).min(1),
  task: z.string().default("text"),
  data: paths.nullish(),
  columns: z.record(z.string(), column).nullish(),
  overrides: z.record(z.string(), z.unknown()).default({}),
  maxLength: z.number().nullish(),
  seed: z.number().default(0),
  method: z.string().optional(),
  dtype: z.enum(["f32", "f16", "bf16"]).default("f32"),
  split: z.enum(["train", "dev", "test"]).default("dev"),
  pretrained: z.boolean().default(true),
});

/** A saved adapter and the encoder that it belongs to, read and checked without a device. */
export interface SavedClassifier {
  readonly folder: string;
  readonly source: PretrainedFolder;
  readonly maxLength: number;
  readonly task: TaskSource;
  readonly method: string;
  /** How the frozen encoder is stored. */
  readonly dtype: "f32" | "f16" | "bf16";
  /** The split that is scored unless another is asked for. */
  readonly split: Split;
  readonly overrides: Partial<EncoderConfig>;
  readonly pretrained: boolean;
}

/** Finds the adapter of a run (`merged` or `checkpoint`), or in a folder of its own. */
export async function openSaved(
  path: string,
  {
    part,
    model,
    dtype,
  }: {
    readonly part: "merged" | "checkpoint";
    readonly model: string | undefined;
    readonly dtype?: SavedClassifier["dtype"] | undefined;
  },
): Promise<SavedClassifier> {
  const folder = findAdapter(absolutePath(path), part);
  const config = readAdapterConfig(folder);
  const read = provenance.safeParse(config);
  if (!read.success) throw new Error(`${folder}/${CONFIG}: ${describeIssues(read.error.issues, undefined)}`);
  const said = read.data;
  if (said.method === "full" && (dtype ?? "f32") !== "f32")
    throw new UsageError(`--dtype ${dtype}: ${folder} holds a whole encoder, which is f32`);
  const source = await openEncoder(model ?? said.base);
  const { labels, task, seed } = said;
  return {
    folder,
    source,
    maxLength: lengthFor(source, said.maxLength ?? null, virtualTokensOf(config)),
    task: { task, labels, seed, data: said.data ?? undefined, columns: said.columns ?? undefined },
    method: said.method ?? String(config.peft?.method ?? "head"),
    dtype: dtype ?? said.dtype,
    split: said.split,
    overrides: said.overrides as Partial<EncoderConfig>, // written by train, from a checked config
    pretrained: said.pretrained,
  };
}

/** Builds the classifier on a device: encoder, head, and what the method added. */
export async function buildClassifier(
  gpu: Gpu,
  { folder, source, task, overrides, pretrained, dtype }: SavedClassifier,
): Promise<{ readonly model: SequenceClassifier; readonly set: AdaptationSet | null }> {
  const { labels, seed } = task;
  const model = await loadEncoder(gpu, source, { labels, seed, overrides, pretrained, dtype });
  return { model, set: loadAdapter(gpu, model, folder) };
}

function virtualTokensOf({ peft }: AdapterConfigFile): number {
  return (peft && methodFromConfig(peft).virtualTokens) ?? 0;
}

/** The folder of a run's adapter, or the path itself where it holds one. */
export function findAdapter(path: string, part: "merged" | "checkpoint"): string {
  if (!exists(path)) throw new Error(`load: there is no ${path}`);
  for (const folder of [joinPath(path, part), path]) if (exists(joinPath(folder, CONFIG))) return folder;
  const isUnfinished = exists(joinPath(path, "metrics.jsonl"));
  if (isUnfinished) throw new Error(`load: the run in ${path} has no ${part}/: it has not finished`);
  throw new Error(`load: ${path} is no run and no adapter: it has neither ${part}/${CONFIG} nor ${CONFIG}`);
}
