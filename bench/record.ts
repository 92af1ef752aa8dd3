// What a file of results says about where and when it was measured.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";

/** The machine, the versions, the date, the commit (with "+" where files differ from it), and how busy it is. */
export function circumstances(): Readonly<Record<string, unknown>> {
  return {
    machine: {
      cpu: cpus()[0]?.model ?? "unknown",
      cores: availableParallelism(),
      platform: process.platform,
      loadAverage: loadavg().map((load) => Number(load.toFixed(2))),
    },
    node: process.versions.node,
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
  };
}

function commit(): string {
  try {
    const git = (...words: string[]): string => execFileSync("git", words, { encoding: "utf8" }).trim();
    return `${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--untracked-files=no") ? "+" : ""}`;
  } catch {
    return "unknown";
  }
}

/** Writes results/<name>.json and gives its path. */
export function writeResults(name: string, record: object): string {
  const folder = fileURLToPath(new URL("results/", import.meta.url));
  const path = `${folder}${name.replace(/[^a-z0-9]+/g, "-")}.json`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  return path;
}

/** Four digits are more than these numbers are worth. */
export function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
