import { FormatError, openTensorFile, type RawTensor } from "../io/index.ts";
import { exists, fileInfo, joinPath, listFolder } from "../platform/index.ts";

const WEIGHTS = /\.(bin|pt|pth|ckpt|safetensors)$/;
/** Names under which a folder of transformers holds weights. */
const USUAL = ["pytorch_model.bin", "model.safetensors"] as const;

/** The weights that a path means: the file itself, the usual one in a folder, or the only one there. */
export function checkpointPath(path: string): string | null {
  if (!fileInfo(path)?.isFolder) return WEIGHTS.test(path) ? path : null;
  const usual = USUAL.map((name) => joinPath(path, name)).find(exists);
  const found = listFolder(path).filter((name) => WEIGHTS.test(name));
  return usual ?? (found.length === 1 ? joinPath(path, found[0] ?? "") : null);
}

/** Whether a path means a checkpoint with a tensor of such a name. What cannot be read fits nothing. */
export function holdsTensor(path: string, pattern: RegExp): boolean {
  try {
    return withCheckpoint(path, (tensors) => [...tensors.keys()].some((name) => pattern.test(name)));
  } catch {
    return false;
  }
}

/**
 * The tensors of a checkpoint, under names without what training programs put in front (`model_state_dict.`, and
 * `module.` of data parallelism). Their bytes are read when asked for, so that a whole model's file costs little.
 */
export function withCheckpoint<T>(path: string, use: (tensors: ReadonlyMap<string, RawTensor>) => T): T {
  const found = checkpointPath(path);
  if (!found) throw new FormatError(`import: ${path} is no file of weights and holds no single one`);
  const file = openTensorFile(found);
  try {
    return use(
      new Map(
        [...file.tensors].map(([name, tensor]) => [
          name.replace(/^(model_state_dict\.)?(module\.)?/, ""),
          tensor,
        ]),
      ),
    );
  } finally {
    file.close();
  }
}
