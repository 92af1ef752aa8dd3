/** The value of an environment variable; undefined where it is unset or empty. */
export function env(name: string): string | undefined {
  const value = process.env[name];
  return value === undefined || value === "" ? undefined : value;
}

export type DebugLevel = 0 | 1 | 2 | 3;

/**
 * `ADAMIX_DEBUG`: 0 silent; 1 lists dispatches with ops, shapes and times, and reports lost tensors; 2 prints
 * specialised WGSL as well; 3 also checks every write for NaN and infinities. Read anew at each call, so that a test
 * may change it.
 */
export function debugLevel(): DebugLevel {
  const text = env("ADAMIX_DEBUG");
  switch (text) {
    case undefined:
    case "0":
      return 0;
    case "1":
      return 1;
    case "2":
      return 2;
    case "3":
      return 3;
    default:
      throw new Error(`env: ADAMIX_DEBUG is "${text}", expected 0, 1, 2 or 3`);
  }
}

/** A number from the environment, or `fallback` where the variable is unset. */
export function numberFromEnv(name: string, fallback: number): number {
  const text = env(name);
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isFinite(value)) throw new Error(`env: ${name} is "${text}", expected a number`);
  return value;
}

/** Makes the process exit with a failure when it ends, without ending it: for errors nobody awaits. */
export function markFailed(): void {
  process.exitCode ||= 1;
}
