import { FormatError } from "../io/index.ts";
import { appendLine, exists, joinPath, makeFolder, removePath, writeFileAtomic } from "../platform/index.ts";

/** The kernels of a run that was tuned, or that took those of another: see KernelRecord. */
export const KERNELS_FILE = "kernels.json";

/**
 * The folder of one run: config.json (as resolved), metrics.jsonl (a line for each step and evaluation),
 * checkpoint/ (the mixture, with the optimiser's state), merged/ (what is deployed), summary.json; kernels.json.
 */
export class RunFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Throws where the folder already holds a run, unless it is to be replaced. */
  static check(path: string, { replace = false }: { replace?: boolean } = {}): void {
    if (replace || !exists(joinPath(path, "config.json"))) return;
    throw new FormatError(
      `run: ${path} already holds a run; name another with --out, or add --force to replace it`,
    );
  }

  /** Makes the folder and writes the config. A folder that already holds a run is refused, unless `replace`. */
  static create(path: string, config: unknown, { replace = false }: { replace?: boolean } = {}): RunFolder {
    RunFolder.check(path, { replace });
    makeFolder(path);
    const run = new RunFolder(path);
    // Results of the run that was here: beside the new config they would be taken for its own.
    if (exists(joinPath(path, "metrics.jsonl")))
      for (const name of ["summary.json", "checkpoint", "merged", KERNELS_FILE])
        removePath(joinPath(path, name));
    writeFileAtomic(joinPath(path, "metrics.jsonl"), "");
    run.write("config.json", config);
    return run;
  }

  /** Appends one line to metrics.jsonl. */
  log(record: Readonly<Record<string, unknown>>): void {
    appendLine(joinPath(this.path, "metrics.jsonl"), JSON.stringify(record));
  }

  /** Writes a JSON file. */
  write(name: string, value: unknown): void {
    writeFileAtomic(joinPath(this.path, name), `${JSON.stringify(value, null, 2)}\n`);
  }

  folder(name: "checkpoint" | "merged"): string {
    return joinPath(this.path, name);
  }
}
