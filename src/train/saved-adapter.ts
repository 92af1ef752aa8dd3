import type { Gpu } from "../array/index.ts";
import { type Parameter, Stream } from "../autograd/index.ts";
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  type AdapterConfigFile,
  type Provenance,
  readAdapterConfig,
  traitsOfConfig,
} from "../formats/index.ts";
import { encodeSafetensors, FormatError, loadStateDict, readStateDict } from "../io/index.ts";
import type { Module, Site } from "../nn/index.ts";
import { AdaptationSet, methodFromConfig, routerFromConfig } from "../peft/index.ts";
import { exists, joinPath, writeFolderAtomic } from "../platform/index.ts";
import { readTensors } from "./pretrained.ts";

export { type AdapterConfigFile, type Provenance, readAdapterConfig };

/** A model with sites, as adapters are saved of it and loaded into it: a classifier or a language model. */
export interface AdaptedModel extends Module {
  readonly config: object;
  sites(): readonly Site[];
}

/**
 * Writes an adaptation (merged or not) and every trained parameter of the model, its head above all, as one folder:
 * adapter_config.json and adapter.safetensors (f32). `extra`: further files of the folder.
 */
export async function saveAdapter(
  folder: string,
  model: AdaptedModel,
  set: AdaptationSet | null,
  provenance: Provenance,
  extra: ReadonlyMap<string, Uint8Array | string> = new Map(),
): Promise<void> {
  const entries = await readStateDict([...trainedOf(model), ...(set?.namedParameters() ?? [])]);
  const config = {
    adamix: 1,
    peft: set?.method.config ?? null,
    ...(set?.learned && { router: set.learned.router.config }),
    ...provenance,
    model: traitsOfConfig(model.config),
  };
  const files = new Map<string, Uint8Array | string>([
    [ADAPTER_CONFIG, `${JSON.stringify(config, null, 2)}\n`],
    [ADAPTER_WEIGHTS, encodeSafetensors(entries, { format: "pt", base: provenance.base })],
    ...extra,
  ]);
  writeFolderAtomic(folder, files);
}

/** Reads what saveAdapter wrote into a model: attaches the adaptation, overwrites the head. Strict. */
export function loadAdapter(gpu: Gpu, model: AdaptedModel, folder: string): AdaptationSet | null {
  for (const name of [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) {
    const path = joinPath(folder, name);
    if (!exists(path)) throw new FormatError(`load adapter: no ${name} in ${folder}`);
  }
  const config = readAdapterConfig(folder);
  const tensors = readTensors(joinPath(folder, ADAPTER_WEIGHTS));
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
    loadStateDict(wanted, tensors, { what: joinPath(folder, ADAPTER_WEIGHTS) });
  } catch (error) {
    set?.dispose();
    throw error;
  }
  return set;
}

function trainedOf(model: Module): [string, Parameter][] {
  return [...model.namedParameters()].filter(([, parameter]) => parameter.requiresGrad);
}
