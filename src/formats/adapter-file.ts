// This package's own folder of an adapter: adapter_config.json and adapter.safetensors. Every other format is read into
// it and written from it, on the host, without a device and without the base model.
import { encodeSafetensors, FormatError, openTensorFile } from "../io/index.ts";
import { exists, joinPath, readText } from "../platform/index.ts";
import { type HostTensors, hostTensor, toWrite, weightedMean } from "./host-tensor.ts";

export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter.safetensors";

/** The model that an adapter is for, as far as other formats ask. */
export interface ModelTraits {
  /** `model_type` of config.json. */
  readonly type: string;
  readonly layers: number;
  /** Activation of the feed-forward parts, which adapters take where they name none. */
  readonly activation?: string;
  /** What a classification head reads: the first token or the mean of all. Absent: no such head, or the first. */
  readonly pooling?: string;
}

/** Where a saved adapter comes from: kept in its files. */
export interface Provenance {
  readonly [name: string]: unknown;
  /** Folder or repository of the base model. */
  readonly base: string;
  /** Names of the classes; none for a language model. */
  readonly labels: readonly string[];
  readonly model?: ModelTraits;
}

export interface AdapterConfigFile extends Provenance {
  /** The `config` of the method; null where nothing but the model's own parameters was trained. */
  readonly peft: Readonly<Record<string, unknown>> | null;
  /** Of a mixture whose experts a router with parameters chooses. */
  readonly router?: Readonly<Record<string, unknown>>;
}

/** A saved adapter in host memory. */
export interface AdapterFile {
  readonly config: AdapterConfigFile;
  /** `SITE.METHOD.PART` [M, ...] for the adaptation; trained parameters of the model under their own names. */
  readonly tensors: HostTensors;
}

export function readAdapterConfig(folder: string): AdapterConfigFile {
  const path = joinPath(folder, ADAPTER_CONFIG);
  try {
    const config = JSON.parse(readText(path)) as AdapterConfigFile;
    if (!Array.isArray(config.labels)) throw new FormatError('no "labels"');
    return config;
  } catch (error) {
    throw new FormatError(`load adapter: ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Reads what saveAdapter or importAdapter wrote. */
export function readAdapterFile(folder: string): AdapterFile {
  for (const name of [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) {
    const path = joinPath(folder, name);
    if (!exists(path)) throw new FormatError(`load adapter: no ${name} in ${folder}`);
  }
  return { config: readAdapterConfig(folder), tensors: readHostTensors(joinPath(folder, ADAPTER_WEIGHTS)) };
}

/** All tensors of a safetensors or PyTorch file in host memory. */
export function readHostTensors(path: string): HostTensors {
  const file = openTensorFile(path);
  try {
    return new Map([...file.tensors].map(([name, tensor]) => [name, hostTensor(tensor)]));
  } finally {
    file.close();
  }
}

/** The files of an adapter's own folder, ready for writeFolderAtomic. */
export function adapterFiles({ config, tensors }: AdapterFile): Map<string, Uint8Array | string> {
  return new Map<string, Uint8Array | string>([
    [ADAPTER_CONFIG, `${JSON.stringify({ adamix: 1, ...config }, null, 2)}\n`],
    [ADAPTER_WEIGHTS, encodeSafetensors(toWrite(tensors), { format: "pt", base: config.base })],
  ]);
}

/** M, the larger of both sides; 1 for what is no mixture. */
export function expertsIn({ config, tensors }: AdapterFile): number {
  let most = typeof config.peft?.experts === "number" ? config.peft.experts : 1;
  for (const [name, { shape }] of tensors) if (isBank(name)) most = Math.max(most, shape[0] ?? 1);
  return most;
}

/** Whether a tensor is of a bank of an adapter or of a LoRA. Methods that combine those have more, see expectBanks. */
export function isBank(name: string): boolean {
  return /\.adapter\.(down|up)\.(weight|bias)$|\.lora\.lora_[AB]\.weight$/.test(name);
}

/** Methods that are banks and nothing else: what can be merged, renamed and stacked tensor by tensor. */
const OF_BANKS: readonly unknown[] = ["adapter", "lora"];

export function isOfBanks({ peft }: AdapterConfigFile): boolean {
  return peft !== null && OF_BANKS.includes(peft.method);
}

/** Refuses other methods than adapters and LoRA. */
export function expectBanks(what: string, { config }: AdapterFile): void {
  if (isOfBanks(config)) return;
  const method = config.peft?.method ?? "head";
  throw new FormatError(
    `${what}: the adapter is of method ${JSON.stringify(method)}; expected one of ${OF_BANKS.join(", ")} (format safetensors takes every method)`,
  );
}

/**
 * The same adapter with one expert on each side, the uniform mean: W' = (1/M) Σ W_j, each side and its biases apart.
 * Paper: section 3.3.
 */
export function mergedFile(file: AdapterFile): AdapterFile {
  const experts = expertsIn(file);
  if (experts === 1) return file;
  expectBanks("merge", file);
  if (file.config.router)
    throw new FormatError(
      "merge: a router with parameters chooses among the experts, which no mean of them does",
    );
  const tensors = new Map(
    [...file.tensors].map(([name, tensor]) => {
      const n = isBank(name) ? (tensor.shape[0] ?? 1) : 1;
      return [name, n === 1 ? tensor : weightedMean(tensor, new Array<number>(n).fill(1 / n))] as const;
    }),
  );
  const { peft } = file.config;
  const mergedFrom = { experts, share: peft?.share ?? "none", by: "uniform" };
  return { config: { ...file.config, mergedFrom, peft: { ...peft, experts: 1 } }, tensors };
}

/** Refuses mixtures: formats of other tools have one expert. */
export function expectMerged(format: string, file: AdapterFile): void {
  const experts = expertsIn(file);
  if (experts === 1) return;
  throw new FormatError(
    `export: the adapter holds ${experts} experts, ${format} holds one (export the run's merged/, or merge here: { merge: true }, --merge)`,
  );
}
