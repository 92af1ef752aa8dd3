import { FormatError } from "../io/index.ts";
import { exists, joinPath, writeFolderAtomic } from "../platform/index.ts";
import {
  ADAPTER_WEIGHTS,
  type AdapterFile,
  adapterFiles,
  mergedFile,
  readAdapterFile,
} from "./adapter-file.ts";
import { exportAdapters, importAdapters, isAdaptersFolder } from "./adapters-folder.ts";
import { importAuthors, isAuthorsCheckpoint } from "./authors-checkpoint.ts";
import type { AdapterFormat, ExportSettings, ImportSettings } from "./format.ts";
import { importLoralib, isLoralibFile } from "./loralib.ts";
import { traitsOfBase } from "./model-names.ts";
import { exportPeft, importPeft, isPeftFolder } from "./peft-lora.ts";
import { exportPlain, importPlain, isPlainFile } from "./plain-safetensors.ts";

/** The formats that can be named. What fits a folder is tried in this order. */
export const ADAPTER_FORMATS = {
  peft: {
    about: "Hugging Face peft: LoRA and heads",
    fits: isPeftFolder,
    write: exportPeft,
    read: importPeft,
  },
  adapters: {
    about: "AdapterHub adapters: bottleneck adapters, LoRA and heads",
    fits: isAdaptersFolder,
    write: exportAdapters,
    read: importAdapters,
  },
  authors: {
    about: "checkpoints of the AdaMix authors' programs, every expert of them (read only)",
    fits: isAuthorsCheckpoint,
    read: importAuthors,
  },
  loralib: {
    about: "checkpoints of microsoft/LoRA (read only)",
    fits: isLoralibFile,
    read: importLoralib,
  },
  safetensors: {
    about: "one safetensors file of everything trained, its config in the metadata",
    fits: isPlainFile,
    write: exportPlain,
    read: importPlain,
  },
} as const satisfies Readonly<Record<string, AdapterFormat>>;

export type AdapterFormatName = keyof typeof ADAPTER_FORMATS;

export interface ExportOptions extends ExportSettings {
  readonly format: AdapterFormatName;
  /** Whether a mixture's experts are merged by their mean first. Default false: a mixture is refused where a format has none. */
  readonly merge?: boolean;
  /** Folder of the base model, where the adapter's own files do not say how many layers it has. */
  readonly base?: string;
}

export interface ImportOptions extends ImportSettings {
  /** Default: whichever fits. */
  readonly format?: AdapterFormatName;
}

/** What was written. */
export interface WrittenFile {
  readonly name: string;
  readonly bytes: number;
}

/**
 * Writes a saved adapter (a folder of saveAdapter, or one already read) as another tool loads it. The folder is there
 * whole or not at all. What the format cannot express is refused, with the way out.
 *
 *     exportAdapter("runs/sst2/merged", "sst2-peft", { format: "peft" });
 */
export function exportAdapter(
  from: string | AdapterFile,
  out: string,
  { format, merge = false, base, ...settings }: ExportOptions,
): WrittenFile[] {
  const file = withTraits(typeof from === "string" ? readAdapterFile(from) : from, base);
  const { write } = formatNamed(format);
  if (!write)
    throw new FormatError(`export: ${format} is only read here; written are ${writable().join(", ")}`);
  const files = write(merge ? mergedFile(file) : file, settings);
  writeFolderAtomic(out, files);
  return sizesOf(files);
}

/** The adapter with what the base model's folder says of it, where its own files say nothing. */
function withTraits(file: AdapterFile, base: string | undefined): AdapterFile {
  const { config } = file;
  const model = config.model ?? traitsOfBase(base ?? config.base);
  return model === config.model ? file : { ...file, config: { ...config, ...(model && { model }) } };
}

/**
 * Reads an adapter that another tool wrote and writes it as this package's own folder, which loadAdapter, `evaluate` and
 * `predict` take. Returns what was read.
 *
 *     importAdapter("someone/sst2-lora", "sst2", { base: "roberta-base" });
 */
export function importAdapter(path: string, out: string, options: ImportOptions = {}): AdapterFile {
  const file = readForeign(path, options);
  writeFolderAtomic(out, adapterFiles(file));
  return file;
}

/** importAdapter without writing anything. */
export function readForeign(path: string, { format, ...settings }: ImportOptions = {}): AdapterFile {
  if (!exists(path)) throw new FormatError(`import: there is no ${path}`);
  const { read } = formatNamed(format ?? detectFormat(path));
  const model = settings.model ?? (settings.base === undefined ? undefined : traitsOfBase(settings.base));
  return read(path, { ...settings, ...(model && { model }) });
}

/** The format that a folder or file fits. */
export function detectFormat(path: string): AdapterFormatName {
  const found = names().find((name) => formatNamed(name).fits(path));
  if (found) return found;
  if (exists(joinPath(path, ADAPTER_WEIGHTS)))
    throw new FormatError(`import: ${path} is an adapter of this package already; load it as it is`);
  throw new FormatError(
    `import: ${path} fits no format known here: ${names().join(", ")} (name one with format, --format)`,
  );
}

function formatNamed(name: string): AdapterFormat {
  if (Object.hasOwn(ADAPTER_FORMATS, name)) return ADAPTER_FORMATS[name as AdapterFormatName]; // one of its keys
  throw new FormatError(`formats: "${name}" is not one of ${names().join(", ")}`);
}

function names(): AdapterFormatName[] {
  return Object.keys(ADAPTER_FORMATS) as AdapterFormatName[]; // an object's own keys
}

function writable(): string[] {
  return names().filter((name) => formatNamed(name).write);
}

function sizesOf(files: ReadonlyMap<string, Uint8Array | string>): WrittenFile[] {
  return [...files].map(([name, content]) => ({
    name,
    bytes: typeof content === "string" ? new TextEncoder().encode(content).length : content.length,
  }));
}
