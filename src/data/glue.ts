/** The tasks of GLUE, MNLI with both of its test sets: their files, labels and metrics. */

import { fail, type LabelledText, labelledText, parseLabel, splitLines, splitRow } from "./tables.ts";

export type GlueSplit = "train" | "dev" | "test";

export type GlueMetric = "accuracy" | "f1" | "matthews" | "pearson" | "spearman";

export interface GlueTaskInfo {
  /** The name of the task's folder and in errors. */
  readonly name: string;
  /** Columns of the files, by the names in their header line. */
  readonly text: string;
  readonly pair: string | null;
  readonly label: string;
  /** The columns of train and dev where these have no header line. */
  readonly headerless: readonly string[] | null;
  /** The columns of a test file that has no header line, as benchmarks publish it; its rows may have more. */
  readonly headerlessTest: readonly string[] | null;
  /** Label names by index; null for regression. */
  readonly labels: readonly string[] | null;
  /** What the files write for each label. */
  readonly values: readonly string[] | null;
  /** The published metrics; the first decides which checkpoint is best. */
  readonly metrics: readonly GlueMetric[];
  /** Whether rows of too few columns are left out, as the published QQP files need; elsewhere they are errors. */
  readonly skipsShortRows: boolean;
}

const ENTAILMENT = ["entailment", "not_entailment"] as const;
const THREE_WAY = ["entailment", "neutral", "contradiction"] as const;

/** What the tasks share; each says what differs. */
const SENTENCE_PAIR = {
  text: "sentence1",
  pair: "sentence2",
  label: "label",
  headerless: null,
  headerlessTest: null,
  values: ["0", "1"],
  metrics: ["accuracy"],
  skipsShortRows: false,
} as const;

export const GLUE_TASKS = {
  cola: {
    ...SENTENCE_PAIR,
    name: "CoLA",
    text: "sentence",
    pair: null,
    headerless: ["source", "label", "star", "sentence"],
    labels: ["unacceptable", "acceptable"],
    metrics: ["matthews"],
  },
  sst2: { ...SENTENCE_PAIR, name: "SST-2", text: "sentence", pair: null, labels: ["negative", "positive"] },
  mrpc: {
    ...SENTENCE_PAIR,
    name: "MRPC",
    text: "#1 String",
    pair: "#2 String",
    label: "Quality",
    labels: ["not_equivalent", "equivalent"],
    metrics: ["accuracy", "f1"],
  },
  qqp: {
    ...SENTENCE_PAIR,
    name: "QQP",
    text: "question1",
    pair: "question2",
    label: "is_duplicate",
    labels: ["not_duplicate", "duplicate"],
    metrics: ["accuracy", "f1"],
    skipsShortRows: true,
  },
  stsb: {
    ...SENTENCE_PAIR,
    name: "STS-B",
    label: "score",
    headerlessTest: ["genre", "filename", "year", "old_index", "score", "sentence1", "sentence2"],
    labels: null,
    values: null,
    metrics: ["pearson", "spearman"],
  },
  mnli: { ...SENTENCE_PAIR, name: "MNLI", label: "gold_label", labels: THREE_WAY, values: THREE_WAY },
  /** MNLI's training file, scored on genres that it does not hold. */
  mnlimm: { ...SENTENCE_PAIR, name: "MNLI-mm", label: "gold_label", labels: THREE_WAY, values: THREE_WAY },
  qnli: {
    ...SENTENCE_PAIR,
    name: "QNLI",
    text: "question",
    pair: "sentence",
    labels: ENTAILMENT,
    values: ENTAILMENT,
  },
  rte: { ...SENTENCE_PAIR, name: "RTE", labels: ENTAILMENT, values: ENTAILMENT },
  wnli: { ...SENTENCE_PAIR, name: "WNLI", labels: ["not_entailment", "entailment"] },
} as const satisfies Readonly<Record<string, GlueTaskInfo>>;

export type GlueTask = keyof typeof GLUE_TASKS;

/**
 * Reads one of a task's files. Quotes are literal and texts are kept as they are, SST-2's trailing space too.
 * Labels are class indices (STS-B: scores from 0 to 5), or null in a test file that has none.
 */
export function readGlue(
  task: GlueTask,
  text: string,
  { split }: { readonly split: GlueSplit },
): LabelledText[] {
  const info: GlueTaskInfo = GLUE_TASKS[task];
  const file = `${info.name} ${split}`;
  const lines = splitLines(text, file);
  const first = splitRow(lines[0]);
  const given = split === "test" ? info.headerlessTest : info.headerless;
  const headerless = split === "test" && first.includes(info.text) ? null : given;
  const columns = headerless ?? first;
  const mayBeLonger = split === "test" && headerless !== null;
  const textAt = columnOf(info.text, columns, file);
  const pairAt = info.pair === null ? null : columnOf(info.pair, columns, file);
  const isUnlabelled = split === "test" && !columns.includes(info.label);
  const labelAt = isUnlabelled ? null : columnOf(info.label, columns, file);

  const examples: LabelledText[] = [];
  for (let i = headerless ? 0 : 1; i < lines.length; i++) {
    const row = splitRow(lines[i]);
    if (row.length < columns.length && info.skipsShortRows) continue;
    if (row.length < columns.length || (row.length > columns.length && !mayBeLonger))
      fail(file, i + 1, `${row.length} columns, not ${columns.length}`);
    const label = labelAt === null ? null : glueLabel(row[labelAt] ?? "", info, file, i + 1);
    examples.push(labelledText(row[textAt] ?? "", pairAt === null ? undefined : row[pairAt], label));
  }
  return examples;
}

function columnOf(name: string, columns: readonly string[], file: string): number {
  const index = columns.indexOf(name);
  return index >= 0
    ? index
    : fail(file, 1, `there is no column "${name}"; the columns are ${columns.join(", ")}`);
}

function glueLabel(value: string, info: GlueTaskInfo, file: string, line: number): number {
  const label = parseLabel(value, info.values ?? "regression", file, line);
  if (info.values === null && (label < 0 || label > 5)) {
    fail(file, line, `score ${value} is outside 0 .. 5`);
  }
  return label;
}
