// One safetensors file: the adapter's own names, and all of its config in the metadata.
import { encodeSafetensors, FormatError, readSafetensors } from "../io/index.ts";
import { baseName, exists, fileInfo, joinPath, listFolder, openFile } from "../platform/index.ts";
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  type AdapterConfigFile,
  type AdapterFile,
  isBank,
  isOfBanks,
} from "./adapter-file.ts";
import type { ExportSettings, FolderFiles } from "./format.ts";
import { type HostTensor, type HostTensors, hostTensor, sliceOf, stacked, toWrite } from "./host-tensor.ts";
import { notesOf } from "./notes.ts";

/**
 * Everything that was trained, mixtures and whole models too. Banks of one expert lose their first dimension:
 * `SITE.adapter.down.weight` [r, d]. Metadata: `config` as JSON, and the notes of all exports.
 */
export function exportPlain({ config, tensors }: AdapterFile, { head = true }: ExportSettings): FolderFiles {
  const kept = new Map<string, HostTensor>();
  for (const [name, tensor] of tensors) {
    if (!head && name.startsWith("classifier.")) continue;
    const isFlat = isOfBanks(config) && isBank(name) && tensor.shape[0] === 1;
    kept.set(name, isFlat ? sliceOf(tensor, 0) : tensor);
  }
  const metadata = { format: "pt", ...notesOf(config), config: JSON.stringify(config) };
  return new Map([[ADAPTER_WEIGHTS, encodeSafetensors(toWrite(kept), metadata)]]);
}

/** The file itself, or a folder with one such file and no config of another format. */
export function isPlainFile(path: string): boolean {
  const file = plainFile(path);
  if (!file) return false;
  try {
    return metadataOf(file).config !== undefined;
  } catch {
    return false;
  }
}

function plainFile(path: string): string | null {
  if (!fileInfo(path)?.isFolder) return path.endsWith(".safetensors") ? path : null;
  const found = listFolder(path).filter((name) => name.endsWith(".safetensors"));
  const isAlone = found.length === 1 && !exists(joinPath(path, ADAPTER_CONFIG));
  return isAlone ? joinPath(path, found[0] ?? "") : null;
}

function metadataOf(path: string): Readonly<Record<string, string>> {
  const file = openFile(path);
  try {
    return readSafetensors(file).metadata;
  } finally {
    file.close();
  }
}

/** Reads what exportPlain wrote. */
export function importPlain(path: string): AdapterFile {
  const found = plainFile(path);
  if (!found) throw new FormatError(`import: ${path} is no safetensors file and holds no single one`);
  const file = openFile(found);
  try {
    const { tensors, metadata } = readSafetensors(file);
    if (metadata.config === undefined) {
      throw new FormatError(
        `import: ${baseName(found)} has no config in its metadata: no export of this package wrote it (if peft did, give its whole folder)`,
      );
    }
    const config = JSON.parse(metadata.config) as AdapterConfigFile;
    const read = new Map([...tensors].map(([name, tensor]) => [name, hostTensor(tensor)]));
    return { config, tensors: isOfBanks(config) ? banksOf(read) : read };
  } finally {
    file.close();
  }
}

function banksOf(tensors: HostTensors): HostTensors {
  return new Map(
    [...tensors].map(([name, tensor]) => {
      const dimensions = name.endsWith(".bias") ? 2 : 3;
      return [name, isBank(name) && tensor.shape.length < dimensions ? stacked([tensor]) : tensor];
    }),
  );
}
