import type { AdapterFile, ModelTraits } from "./adapter-file.ts";

/** Files of a folder by name, ready for writeFolderAtomic. */
export type FolderFiles = Map<string, Uint8Array | string>;

export interface ExportSettings {
  /** Name of the adapter where a format has one in its tensors' names. Default "default". */
  readonly name?: string;
  /** Whether the classification head comes along. Default true. */
  readonly head?: boolean;
}

export interface ImportSettings {
  /** The base model, where the files do not say it or it has moved. */
  readonly base?: string;
  /** Type and layers of the base model, as far as they are known. */
  readonly model?: ModelTraits;
  /** Names of the classes. Default: those in the files, else LABEL_0, LABEL_1, ... */
  readonly labels?: readonly string[];
  /** Whether a classification head is read along. Default true. */
  readonly head?: boolean;
  /** alpha of a LoRA whose file does not hold it. */
  readonly alpha?: number;
  /** Whether a mixture's experts are merged as its own file weights them. */
  readonly merge?: boolean;
}

/** A layout of files that other tools read or write. */
export interface AdapterFormat {
  /** One line for --help. */
  readonly about: string;
  /** Whether a folder or file is of this format. */
  fits(path: string): boolean;
  /** Refuses what the format cannot express, and says the way out. Absent: it is only read. */
  readonly write?: (file: AdapterFile, settings: ExportSettings) => FolderFiles;
  readonly read: (path: string, settings: ImportSettings) => AdapterFile;
}
