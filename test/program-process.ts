import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export interface ProgramOutput {
  readonly code: number;
  readonly stdout: string;
  /** Without the warnings that Dawn itself writes there about a driver's limits. */
  readonly stderr: string;
}

/**
 * Runs a program in a process of its own, in the repository's folder: for what must be set before a device opens,
 * and for what ends a process.
 */
export async function runProgram(
  program: string,
  { env = {}, flags = [] }: { env?: Readonly<Record<string, string>>; flags?: readonly string[] } = {},
): Promise<ProgramOutput> {
  const args = [...flags, "--import", "tsx", "--input-type=module", "--eval", program];
  const options = {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { ...process.env, ...env },
    timeout: 120_000,
    maxBuffer: 2 ** 26,
  };
  const [code, stdout, stderr] = await promisify(execFile)(process.execPath, args, options).then(
    ({ stdout, stderr }) => [0, stdout, stderr] as const,
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) =>
      [code, stdout, stderr] as const,
  );
  return { code, stdout, stderr: stderr.replace(/^Warning: max.*\n/gm, "") };
}
