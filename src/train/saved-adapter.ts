import type { Gpu } from "../array/index.ts";
import { type Parameter, Stream } from "../autograd/index.ts";
import { encodeSafetensors, FormatError, loadStateDict, readStateDict } from "../io/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import { AdaptationSet, methodFromConfig, routerFromConfig } from "../peft/index.ts";
import { exists, joinPath, readText, writeFolderAtomic } from "../platform/index.ts";
import { readTensors } from "./pretrained.ts";

const CONFIG = "adapter_config.json";
const WEIGHTS = "adapter.safetensors";

/** Where a saved adapter comes from: kept in its files. */
export interface Provenance {
  readonly [name: string]: unknown;
  readonly base: string;
  readonly labels: readonly string[];
}

/**
 * Writes an adaptation (merged or not) and every trained parameter of the model, its head above all, as one folder:
 * adapter_config.json and adapter.safetensors (f32). `extra`: further files of the folder.
 */
export async function saveAdapter(
  folder: string,
  model: SequenceClassifier,
  set: AdaptationSet | null,
  provenance: Provenance,
  extra: ReadonlyMap<string, Uint8Array | string> = new Map(),
): Promise<void> {
  const entries = await readStateDict([...trainedOf(model), ...(set?.namedParameters() ?? [])]);
  const router = set?.learned && { router: set.learned.router.config };
  const config = { adamix: 1, peft: set?.method.config ?? null, ...router, ...provenance };
  const files = new Map<string, Uint8Array | string>([
    [CONFIG, `${JSON.stringify(config, null, 2)}\n`],
    [WEIGHTS, encodeSafetensors(entries, { format: "pt", base: provenance.base })],
    ...extra,
  ]);
  writeFolderAtomic(folder, files);
}

/** Reads what saveAdapter wrote into a model: attaches the adaptation, overwrites the head. Strict. */
export function loadAdapter(gpu: Gpu, model: SequenceClassifier, folder: string): AdaptationSet | null {
  for (const name of [CONFIG, WEIGHTS]) {
    const path = joinPath(folder, name);
    if (!exists(path)) throw new FormatError(`load adapter: no ${name} in ${folder}`);
  }
  const config = readAdapterConfig(folder);
  const tensors = readTensors(joinPath(folder, WEIGHTS));
  const set = config.peft
    ? new AdaptationSet(gpu, model, methodFromConfig(config.peft), {
        stream: Stream.seed(0),
        router: config.router ? routerFromConfig(config.router) : null,
      })
    : null;
  const own = model.stateDict();
  const wanted = new Map<string, Parameter>([...trainedOf(model), ...(set?.namedParameters() ?? [])]);
  for (const name of tensors.keys()) {
    const parameter = own.get(name);
    if (parameter) wanted.set(name, parameter);
  }
  try {
    loadStateDict(wanted, tensors, { what: joinPath(folder, WEIGHTS) });
  } catch (error) {
    set?.dispose();
    throw error;
  }
  return set;
}

export interface AdapterConfigFile extends Provenance {
  readonly peft: Readonly<Record<string, unknown>> | null;
  /** Of a mixture whose experts a router with parameters chooses. */
  readonly router?: Readonly<Record<string, unknown>>;
}

export function readAdapterConfig(folder: string): AdapterConfigFile {
  const path = joinPath(folder, CONFIG);
  try {
    const config = JSON.parse(readText(path)) as AdapterConfigFile;
    if (!Array.isArray(config.labels)) throw new FormatError('no "labels"');
    return config;
  } catch (error) {
    throw new FormatError(`load adapter: ${path}: ${(error as Error).message}`, { cause: error });
  }
}

function trainedOf(model: SequenceClassifier): [string, Parameter][] {
  return [...model.namedParameters()].filter(([, parameter]) => parameter.requiresGrad);
}
