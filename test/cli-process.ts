import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  /** Without the warnings that Dawn itself writes there about a driver's limits. */
  readonly stderr: string;
}

/** Runs the command line as a process of its own, in the repository's folder, without colours. */
export function adamix(...args: readonly string[]): Promise<Finished> {
  const command = ["--import", "tsx", join("src", "cli", "main.ts"), ...args];
  // Some CI systems ask for colours where there is no terminal; what is compared is the text.
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1" };
  delete env.FORCE_COLOR;
  return new Promise((resolve) => {
    execFile(process.execPath, command, { cwd: root, env, timeout: 120_000 }, (error, stdout, stderr) => {
      const code = typeof error?.code === "number" ? error.code : error ? -1 : 0;
      resolve({ code, stdout, stderr: stderr.replace(/^Warning: max.*\n/gm, "") });
    });
  });
}

/** The output of a process that must succeed. */
export async function succeed(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await adamix(...args);
  if (code !== 0 || stderr !== "")
    throw new Error(`adamix ${args.join(" ")}: exit code ${code}\n${stderr}${stdout}`);
  return stdout;
}

/** A folder that is gone when the process ends. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "adamix-cli-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Lines of a small task: every sentence with "good" is good. */
export function sentences(n: number, first = 0): string {
  const rows = Array.from({ length: n }, (_, i) => {
    const [word, label] = (i + first) % 3 === 0 ? ["good", "yes"] : ["poor", "no"];
    return `the ${["soup", "train", "film", "report", "rain"][(i + first) % 5]} was ${word} on day ${i + first}\t${label}`;
  });
  return ["text\tlabel", ...rows, ""].join("\n");
}
