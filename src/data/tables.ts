/** Readers for data of one's own: a TSV or JSON Lines file with texts, perhaps second texts, and labels. */

/** One example as it is read. */
export interface LabelledText {
  readonly text: string;
  readonly pair?: string;
  /** A class index, or a number to regress on; null where the file has no labels. */
  readonly label: number | null;
}

/** The declared label names, in the order of their indices; or numbers. */
export type LabelSet = readonly string[] | "regression";

/** Where a value stands: the name of a column or key, or the index of a column in a file without header. */
export type Column = string | number;

export interface TableOptions {
  readonly labels: LabelSet;
  /** What errors call the file. */
  readonly file?: string;
  /** `text`, `pair` and `label` by default; indices are for files without a header line. */
  readonly columns?: { readonly text?: Column; readonly pair?: Column; readonly label?: Column };
  /** Whether every row must have a label; false reads data to predict on. */
  readonly labelled?: boolean;
}

/** Reads tab-separated values. Quotes are literal, nothing is trimmed, and a pair column may be absent. */
export function readTsv(text: string, options: TableOptions): LabelledText[] {
  const { labels, file = "tsv", columns = {}, labelled = true } = options;
  const lines = splitLines(text, file);
  const hasHeader = !Object.values(columns).some((column) => typeof column === "number");
  const names = hasHeader ? splitRow(lines[0]) : null;
  const width = names?.length ?? splitRow(lines[0]).length;
  const find = (use: "text" | "pair" | "label", isNeeded: boolean): number | null => {
    const column = columns[use] ?? (hasHeader ? use : null);
    if (column === null) return isNeeded ? fail(file, 1, `the column of the ${use} is not given`) : null;
    return columnIndex(column, names, width, isNeeded || columns[use] !== undefined, file);
  };
  const textAt = find("text", true) ?? 0;
  const pairAt = find("pair", false);
  const labelAt = find("label", labelled);

  const rows: LabelledText[] = [];
  for (let i = hasHeader ? 1 : 0; i < lines.length; i++) {
    const row = splitRow(lines[i]);
    if (row.length !== width) fail(file, i + 1, `${row.length} columns, not ${width}`);
    const label = labelAt === null ? null : parseLabel(row[labelAt] ?? "", labels, file, i + 1);
    rows.push(labelledText(row[textAt] ?? "", pairAt === null ? undefined : row[pairAt], label));
  }
  return rows;
}

/** Reads one JSON object a line. A label is a name of the set, or a number to regress on. */
export function readJsonl(text: string, options: TableOptions): LabelledText[] {
  const { labels, file = "jsonl", columns = {}, labelled = true } = options;
  const { text: textKey = "text", pair: pairKey = "pair", label: labelKey = "label" } = columns;
  return splitLines(text, file).map((line, i) => {
    const row = parseObject(line, file, i + 1);
    const string = (key: Column): string | undefined => {
      const value = row[key];
      if (value === undefined || value === null) return undefined;
      if (typeof value === "string") return value;
      return fail(file, i + 1, `"${key}" is ${JSON.stringify(value)}, not a string`);
    };
    const first = string(textKey) ?? fail(file, i + 1, `there is no "${textKey}"`);
    const given = row[labelKey];
    const isAbsent = given === undefined || given === null;
    if (isAbsent && labelled) fail(file, i + 1, `there is no "${labelKey}"`);
    const label = isAbsent ? null : parseLabel(String(given), labels, file, i + 1);
    return labelledText(first, string(pairKey), label);
  });
}

/** The lines of a text without their ends, without a byte order mark and the empty line after the last end. */
export function splitLines(text: string, file: string): string[] {
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  if (lines.at(-1) === "") lines.pop();
  if (lines.length === 0) throw new Error(`${file}: the file is empty`);
  return lines.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
}

/** The values of one line. */
export const splitRow = (line: string | undefined): string[] => (line ?? "").split("\t");

/** Throws the one kind of error that readers throw: file, line, what is wrong. */
export function fail(file: string, line: number, problem: string): never {
  throw new Error(`${file}: line ${line}: ${problem}`);
}

/** The index of a label in its set, or its number. */
export function parseLabel(value: string, labels: LabelSet, file: string, line: number): number {
  if (labels === "regression") {
    const number = value.trim() === "" ? Number.NaN : Number(value);
    return Number.isFinite(number) ? number : fail(file, line, `label "${value}" is not a number`);
  }
  const index = labels.indexOf(value);
  return index >= 0 ? index : fail(file, line, `label "${value}" is not one of ${labels.join(", ")}`);
}

/** An example without a `pair` property where there is none. */
export function labelledText(text: string, pair: string | undefined, label: number | null): LabelledText {
  return pair === undefined ? { text, label } : { text, pair, label };
}

/** Where a column stands; null if it is absent and not needed. */
function columnIndex(
  column: Column,
  names: readonly string[] | null,
  width: number,
  isNeeded: boolean,
  file: string,
): number | null {
  if (typeof column === "number") {
    if (column >= 0 && column < width) return column;
    return fail(file, 1, `there is no column ${column}; there are ${width}`);
  }
  const index = names?.indexOf(column) ?? -1;
  if (index >= 0) return index;
  return isNeeded
    ? fail(file, 1, `there is no column "${column}"; the columns are ${names?.join(", ")}`)
    : null;
}

function parseObject(line: string, file: string, number: number): Readonly<Record<Column, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new Error(`${file}: line ${number}: not JSON: ${line.slice(0, 60)}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return fail(file, number, `not a JSON object: ${line.slice(0, 60)}`);
  }
  return value as Record<string, unknown>; // JSON objects have string keys
}
