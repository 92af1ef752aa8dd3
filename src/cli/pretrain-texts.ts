import type { SplitInto } from "./pretrain-flags.ts";
import { readTextFile } from "./text-files.ts";

export interface TextSource {
  readonly sources: readonly string[];
  readonly column?: string | undefined;
}

/** All lines of all files, or of one column of tab-separated ones, trimmed and without the empty ones. */
export async function readLines({ sources, column }: TextSource): Promise<string[]> {
  const all: string[] = [];
  for (const path of sources) {
    const text = await readTextFile(path);
    const lines = column === undefined ? text.split(/\r?\n/) : columnOf(text, column, path);
    for (const line of lines) if (line.trim() !== "") all.push(line.trim());
  }
  return all;
}

/** The texts of files, as they stand: whole files, paragraphs (between empty lines), or lines. */
export async function readTexts(
  { sources, column }: TextSource,
  split: SplitInto = "file",
): Promise<string[]> {
  if (column !== undefined) return readLines({ sources, column });
  const all: string[] = [];
  for (const path of sources) {
    const text = (await readTextFile(path)).replaceAll("\r\n", "\n");
    const texts = split === "file" ? [text] : text.split(split === "line" ? "\n" : /\n[ \t]*\n\s*/);
    for (const one of texts) if (one.trim() !== "") all.push(one);
  }
  return all;
}

/** One column of tab-separated lines; labels and other columns are not looked at. */
function columnOf(text: string, column: string, file: string): string[] {
  const rows = text.split(/\r?\n/).map((line) => line.split("\t"));
  const isIndex = /^\d+$/.test(column);
  const index = isIndex ? Number(column) : (rows[0] ?? []).indexOf(column);
  if (index < 0)
    throw new Error(`${file}: there is no column "${column}"; the columns are ${rows[0]?.join(", ")}`);
  return rows.slice(isIndex ? 0 : 1).map((row) => row[index] ?? "");
}
