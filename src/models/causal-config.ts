// What the configs of causal language models share.
import { FormatError } from "../io/index.ts";
import type { ConfigJson } from "./config-values.ts";

/** Refuses every `model_type` but the known ones. */
export function configModelType<T extends string>(source: ConfigJson, known: readonly T[]): T {
  const value = source.model_type ?? null;
  const found = known.find((one) => one === value);
  if (found !== undefined) return found;
  const list = known.map((one) => JSON.stringify(one)).join(", ");
  const given = value === null ? 'no "model_type"' : `model_type is ${JSON.stringify(value)}`;
  throw new FormatError(`config: ${given}; supported: ${list}`);
}

export function configFlag(source: ConfigJson, name: string, fallback: boolean): boolean {
  const value = source[name] ?? fallback;
  if (typeof value === "boolean") return value;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected true or false`);
}

/** One token id, a list of them, or none. */
export function configIds(source: ConfigJson, name: string): number[] {
  const value = source[name] ?? [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const isId = (id: unknown): id is number => typeof id === "number" && Number.isInteger(id) && id >= 0;
  if (list.every(isId)) return list;
  throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected a token id or a list of them`);
}

/** Refuses a number that does not split evenly. */
export function expectSplit(name: string, whole: number, parts: number, what: string): void {
  if (whole % parts !== 0)
    throw new FormatError(`config: ${name} ${whole} does not split into ${parts} ${what}`);
}
