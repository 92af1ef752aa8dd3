import {
  baseName,
  exists,
  joinPath,
  type OpenFile,
  openFile,
  parentFolder,
  readText,
} from "../platform/index.ts";
import { FormatError } from "./format-error.ts";
import { readPytorch } from "./pytorch.ts";
import { type RawTensor, readSafetensors } from "./safetensors.ts";

/** The tensors of a checkpoint on disk, in one file or several. Their bytes are read when they are asked for. */
export interface TensorFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, RawTensor>;
  /** Bytes of all files. */
  readonly bytes: number;
  /** Closes the files: no tensor can be read any more. */
  close(): void;
}

/** Names under which a folder in Hugging Face's layout holds its weights, the preferred one first. */
export const WEIGHT_FILES = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
] as const;

/** Opens `.safetensors`, a PyTorch file (`.bin`, `.pt`, `.ckpt`), or the `.index.json` of several such files. */
export function openTensorFile(path: string): TensorFile {
  const shards = path.endsWith(".index.json") ? readIndex(path) : [path];
  const files: OpenFile[] = [];
  const tensors = new Map<string, RawTensor>();
  const close = (): void => {
    for (const file of files) file.close();
  };
  try {
    for (const shard of shards) {
      const file = openFile(shard);
      files.push(file);
      for (const [name, tensor] of named(shard, () => readTensors(file))) {
        if (tensors.has(name)) throw new FormatError(`${path}: "${name}" is in two of its files`);
        tensors.set(name, tensor);
      }
    }
  } catch (error) {
    close();
    throw error;
  }
  return { path, tensors, bytes: files.reduce((sum, file) => sum + file.bytes, 0), close };
}

/** Opens the weights in a folder, whichever of WEIGHT_FILES it has. */
export function openWeights(folder: string): TensorFile {
  const found = WEIGHT_FILES.find((name) => exists(joinPath(folder, name)));
  if (!found) throw new FormatError(`model: no weights in ${folder} (expected ${WEIGHT_FILES.join(", ")})`);
  return openTensorFile(joinPath(folder, found));
}

function readTensors(file: OpenFile): ReadonlyMap<string, RawTensor> {
  refuseText(file);
  return file.path.endsWith(".safetensors") ? readSafetensors(file).tensors : readPytorch(file);
}

/** Files that stand where weights should: what a broken download or a clone without git-lfs leaves. */
function refuseText(file: OpenFile): void {
  const head = new TextDecoder().decode(file.read(0, Math.min(64, file.bytes)));
  if (file.bytes === 0) throw new FormatError("it is empty; download it again");
  if (head.startsWith("version https://git-lfs"))
    throw new FormatError("a pointer of git-lfs, not the weights themselves; fetch them with git lfs pull");
  if (/^\s*<(!doctype|html|\?xml)/i.test(head))
    throw new FormatError("a page of HTML, not weights; download the file again");
}

function named<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${path}: ${error.message}`, { cause: error });
  }
}

/** The files that an index names, each once. Plain names only: an index must not lead out of its folder. */
export function shardNames(path: string): string[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readText(path));
  } catch (cause) {
    throw new FormatError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  const map =
    typeof parsed === "object" && parsed !== null && "weight_map" in parsed ? parsed.weight_map : null;
  if (typeof map !== "object" || map === null)
    throw new FormatError(`${path}: no "weight_map", which says in which file each tensor is`);
  const names = new Set(Object.values(map).map(String));
  if (names.size === 0) throw new FormatError(`${path}: its "weight_map" is empty`);
  for (const name of names)
    if (name !== baseName(name) || name === ".." || name.includes("\\"))
      throw new FormatError(`${path}: it names the file "${name}"; expected a plain name beside it`);
  return [...names];
}

function readIndex(path: string): string[] {
  const folder = parentFolder(path);
  return shardNames(path).map((name) => {
    if (!exists(joinPath(folder, name)))
      throw new FormatError(`${path}: ${name} is missing beside it; download it too`);
    return joinPath(folder, name);
  });
}
