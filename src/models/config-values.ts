// Reading a config.json: numbers of a kind, choices, and settings that have one supported value.
import { FormatError } from "../io/index.ts";

export type ConfigJson = Readonly<Record<string, unknown>>;

const KINDS = {
  size: { expected: "a whole number of 1 or more", fits: (n: number) => Number.isInteger(n) && n >= 1 },
  index: { expected: "a whole number", fits: (n: number) => Number.isInteger(n) && n >= 0 },
  share: { expected: "a share p, 0 <= p < 1", fits: (n: number) => n >= 0 && n < 1 },
  number: { expected: "a number of 0 or more", fits: (n: number) => Number.isFinite(n) && n >= 0 },
} as const;
export type NumberKind = keyof typeof KINDS;

/** The config as an object, with the overrides laid over it. */
export function configObject(json: unknown, overrides: object = {}): ConfigJson {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new FormatError("config: not a JSON object");
  return { ...json, ...overrides };
}

/** A number of some kind; `fallback` where it is absent or null. */
export function configNumber(source: ConfigJson, name: string, kind: NumberKind, fallback?: number): number {
  const value = source[name] ?? fallback;
  const { expected, fits } = KINDS[kind];
  if (typeof value === "number" && fits(value)) return value;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected ${expected}`);
}

/** One of several values; `fallback` where it is absent or null. */
export function configChoice<T>(source: ConfigJson, name: string, allowed: readonly T[], fallback: T): T {
  const value = source[name] ?? fallback;
  if (allowed.includes(value as T)) return value as T;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}; supported: ${listed(allowed)}`);
}

/** Refuses another value of settings that would change results without a word. Absent and null are fine. */
export function checkFixed(source: ConfigJson, fixed: Readonly<Record<string, readonly unknown[]>>): void {
  for (const [name, allowed] of Object.entries(fixed)) {
    const value = source[name] ?? null;
    if (value !== null && !allowed.includes(value))
      throw new FormatError(`config: ${name} is ${JSON.stringify(value)}; supported: ${listed(allowed)}`);
  }
}

function listed(values: readonly unknown[]): string {
  return values.map((value) => JSON.stringify(value)).join(", ");
}
