import Table from "cli-table3";
import colour from "picocolors";
import type { TaskScores } from "../train/index.ts";

export function print(line = ""): void {
  console.log(line);
}

/** "1,234,567" */
export function grouped(n: number): string {
  return n.toLocaleString("en-US");
}

/** Six digits, as every score is printed. */
export function digits(x: number): string {
  return x.toFixed(6);
}

/** "3.4e-4" or "0.02": a learning rate. */
export function rate(x: number): string {
  return x !== 0 && x < 0.001 ? x.toExponential(2) : String(Number(x.toPrecision(3)));
}

/** "45 s", "3 min 20 s", "2 h 5 min" */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** "accuracy 0.712156  nll 0.556123": the same from training and from evaluation. */
export function scoreLine(scores: TaskScores): string {
  return Object.entries(scores)
    .map(([name, value]) => `${name} ${digits(value)}`)
    .join("  ");
}

/** Columns without lines; the first is aligned left, the others right unless `left`. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  { left = false }: { left?: boolean } = {},
): string {
  const made = new Table({
    head: head.map((cell) => colour.bold(cell)),
    colAligns: head.map((_, i) => (i === 0 || left ? "left" : "right")),
    style: { head: [], border: [], compact: true, "padding-left": 0, "padding-right": 2 },
    chars: NO_LINES,
  });
  for (const row of rows) made.push([...row]);
  return made
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

const NO_LINES = Object.fromEntries(
  ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right"]
    .concat(["left", "left-mid", "mid", "mid-mid", "right", "right-mid", "middle"])
    .map((name) => [name, ""]),
);

/** Share of the commonest label: what a classifier reaches that has learned nothing. */
export function majorityShare(labels: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  return Math.max(0, ...counts.values()) / Math.max(1, labels.length);
}
