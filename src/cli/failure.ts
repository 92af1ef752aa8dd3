import { debugLevel } from "../platform/index.ts";

/** A wrong command line or config: exit code 2. Other failures: 1. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Longest message that is shown whole: hundreds of misfit weights are no clear line. */
const LONGEST = 900;

/** What is written to stderr for an error: one line, and the stack where ADAMIX_DEBUG asks for it. */
export function describeFailure(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const line = message.trim().replace(/\s*\n\s*/g, "; ") || "failed without a message";
  if (!wantsDetail()) return `adamix: ${shortened(line)}`;
  return `adamix: ${line}\n${error instanceof Error ? (error.stack ?? "") : ""}`;
}

export function exitCodeOf(error: unknown): number {
  return error instanceof UsageError ? 2 : 1;
}

function wantsDetail(): boolean {
  try {
    return debugLevel() >= 1;
  } catch {
    return true;
  }
}

function shortened(line: string): string {
  if (line.length <= LONGEST) return line;
  return `${line.slice(0, LONGEST)}... (ADAMIX_DEBUG=1 shows all)`;
}
