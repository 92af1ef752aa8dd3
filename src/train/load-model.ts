import type { Gpu, HalfType } from "../array/index.ts";
import { type Parameter, Stream } from "../autograd/index.ts";
import {
  downloadModel,
  FormatError,
  type HubOptions,
  isRepoName,
  openWeights,
  type RawTensor,
  streamStateDict,
} from "../io/index.ts";
import {
  type ModelFamily,
  type ModelHead,
  type ModelTask,
  modelFamily,
  modelHead,
  type TaskModels,
} from "../models/index.ts";
import { initNormal, type Module } from "../nn/index.ts";
import { assetPath, exists, joinPath, readText } from "../platform/index.ts";

/** The name of the encoder that the package brings along. */
export const EMBEDDED = "embedded";

/** A model on disk, its config read and checked. */
export interface ModelFolder {
  /** As it was asked for: a path, a repository, or "embedded". */
  readonly name: string;
  readonly folder: string;
  /** config.json as it is. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly family: ModelFamily;
}

/** The folder of a model: a path, "embedded", or a repository of the hub, which is downloaded where it is not in the cache. */
export async function modelFolderPath(name: string, hub: HubOptions = {}): Promise<string> {
  if (name === EMBEDDED) return assetPath("encoder");
  if (exists(name) || !isRepoName(name)) return name;
  try {
    return await downloadModel(name, hub);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`model: there is no folder ${name}; ${error.message}`, { cause: error });
  }
}

/** Finds a model and reads its config.json. An architecture that is not known is an error that names those that are. */
export async function openModelFolder(name: string, hub: HubOptions = {}): Promise<ModelFolder> {
  const folder = await modelFolderPath(name, hub);
  const path = joinPath(folder, "config.json");
  if (!exists(path)) {
    throw new FormatError(
      `model: no config.json in ${folder} (expected a folder with config.json, weights and a tokenizer; a repository of the hub as ORG/NAME; or "${EMBEDDED}")`,
    );
  }
  try {
    const json = JSON.parse(readText(path)) as ModelFolder["json"];
    const family = modelFamily(json);
    checkArchitecture(family, json.architectures ?? null);
    family.parseConfig(json);
    return { name, folder, json, family };
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Another head of a known family may have tensors of the same names with another meaning. */
function checkArchitecture({ architectures: known }: ModelFamily, given: unknown): void {
  if (given === null || (Array.isArray(given) && given.every((name) => known.includes(name)))) return;
  throw new FormatError(`config: architectures is ${JSON.stringify(given)}; supported: ${known.join(", ")}`);
}

export interface LoadModelOptions<Task extends ModelTask> {
  readonly task: Task;
  /**
   * f16 or bf16: the matrices outside a head that trains are frozen and stored in that type, with no copy in f32 on the
   * way. Default: f32, whatever the file has.
   */
  readonly dtype?: "f32" | HalfType;
  /** Changes of the config: labels, dropout, pooling. */
  readonly overrides?: object;
  /** Whether a head in the file is left out and a fresh one is drawn, as for a new task. Default: false. */
  readonly newHead?: boolean;
  /** Of what is initialised afresh. Default 0. */
  readonly seed?: number;
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
  readonly hub?: HubOptions;
}

export interface LoadedModel<Model> {
  readonly model: Model;
  /** Parameters that the file lacks: initialised afresh, N(0, initializer_range) for matrices. */
  readonly fresh: readonly string[];
  readonly source: ModelFolder;
}

/**
 * Opens a model for a task: config, weights under old names or new ones, with or without the family's prefix. The
 * file is read in parts of a few megabytes. Strict: what is missing, left over or of another shape is listed in one
 * error, but for what the task's head declares that may be absent or ignored.
 *
 *     const { model, fresh } = await loadModel(gpu, "roberta-large", { task: "sequence-classification", dtype: "f16" });
 */
export async function loadModel<Task extends ModelTask>(
  gpu: Gpu,
  source: string | ModelFolder,
  options: LoadModelOptions<Task>,
): Promise<LoadedModel<TaskModels[Task]>> {
  const { task, dtype = "f32", overrides = {}, newHead = false, seed = 0, onProgress, hub } = options;
  const opened = typeof source === "string" ? await openModelFolder(source, hub) : source;
  const { folder, family, json } = opened;
  const head = modelHead(family, task);
  const file = openWeights(folder);
  try {
    const model = head.make(gpu, family.parseConfig(json, overrides));
    try {
      const tensors = newHead ? without(file.tensors, family, head.head) : file.tensors;
      const options = { what: file.path, dtype, newHead, ...(onProgress && { onProgress }) };
      const fresh = await fillModel(model, tensors, family, head, options);
      initialise(model.stateDict(), fresh, Stream.seed(seed).fold("head"), json.initializer_range);
      return { model, fresh, source: opened };
    } catch (error) {
      model.dispose();
      throw error;
    }
  } finally {
    file.close();
  }
}

interface FillOptions {
  /** What is read, for messages. */
  readonly what: string;
  readonly dtype: "f32" | HalfType;
  readonly newHead?: boolean;
  readonly onProgress?: NonNullable<LoadModelOptions<ModelTask>["onProgress"]>;
}

/** Reads tensors into a model, matrices as they are to be stored. Gives the names that the tensors lack. */
export async function fillModel(
  model: Module,
  tensors: ReadonlyMap<string, RawTensor>,
  family: ModelFamily,
  head: Omit<ModelHead<unknown, Module>, "make">,
  { what, dtype, newHead = false, onProgress }: FillOptions,
): Promise<string[]> {
  const isFull = (name: string, { shape }: Parameter): boolean =>
    shape.length < 2 || (head.head.test(name) && !head.frozenHead);
  const fresh = await streamStateDict(model.stateDict(), tensors, {
    what,
    rename: family.rename,
    mayBeAbsent: (name) => (newHead && head.head.test(name)) || head.mayBeAbsent.test(name),
    mayBeIgnored: (name) => head.mayBeIgnored.test(name),
    dtypeOf: (name, parameter) => (isFull(name, parameter) ? "f32" : dtype),
    ...(onProgress && { onProgress }),
  });
  if (dtype !== "f32")
    for (const parameter of model.parameters()) if (parameter.dtype === dtype) parameter.requiresGrad = false;
  return fresh;
}

function without(
  tensors: ReadonlyMap<string, RawTensor>,
  family: ModelFamily,
  head: RegExp,
): Map<string, RawTensor> {
  return new Map([...tensors].filter(([name]) => !head.test(family.rename(name))));
}

/** N(0, std) for matrices, each from a stream of its own name; biases and LayerNorms stay as they are made. */
function initialise(
  parameters: ReadonlyMap<string, Parameter>,
  fresh: readonly string[],
  stream: Stream,
  range: unknown,
): void {
  const std = typeof range === "number" && range > 0 ? range : 0.02;
  for (const name of fresh) {
    const parameter = parameters.get(name);
    if (!parameter || parameter.shape.length < 2) continue;
    initNormal(parameter, stream.fold(name.replace(/\.weight$/, "").replace(/^classifier\./, "")), std);
  }
}

/** One line about what was initialised afresh; null where nothing was. */
export function describeFresh({
  fresh,
  source,
}: {
  readonly fresh: readonly string[];
  readonly source: Pick<ModelFolder, "name">;
}): string | null {
  if (fresh.length === 0) return null;
  return `not in ${source.name}, initialised afresh: ${fresh.join(", ")}`;
}
