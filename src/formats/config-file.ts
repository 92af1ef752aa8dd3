import { FormatError } from "../io/index.ts";
import { readText } from "../platform/index.ts";

/** A JSON file whose values are asked for one by one: each is of its kind, or one FormatError names file and value. */
export class ConfigFile {
  readonly #path: string;
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(path: string, values: unknown = parse(path)) {
    this.#path = path;
    if (typeof values !== "object" || values === null || Array.isArray(values))
      throw new FormatError(`${path}: not a JSON object`);
    this.#values = values as Readonly<Record<string, unknown>>; // an object, and no list
  }

  error(message: string): FormatError {
    return new FormatError(`${this.#path}: ${message}`);
  }

  /** The value as it is; null where it is absent. */
  value(name: string): unknown {
    return this.#values[name] ?? null;
  }

  string(name: string): string {
    const value = this.value(name);
    if (typeof value === "string" && value !== "") return value;
    throw this.error(`${name} is ${JSON.stringify(value)}, expected a text`);
  }

  number(name: string, fallback?: number): number {
    const value = this.value(name) ?? fallback;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw this.error(`${name} is ${JSON.stringify(value ?? null)}, expected a number`);
  }

  /** An object inside; {} where it is absent. */
  record(name: string): Readonly<Record<string, unknown>> {
    const value = this.value(name) ?? {};
    if (typeof value === "object" && !Array.isArray(value)) return value as Readonly<Record<string, unknown>>;
    throw this.error(`${name} is ${JSON.stringify(value)}, expected an object`);
  }

  /** The same as a reader of its own. */
  inner(name: string): ConfigFile {
    return new ConfigFile(`${this.#path}, ${name}`, this.record(name));
  }

  /** Refuses other values than these. */
  expect(name: string, allowed: readonly unknown[]): void {
    const value = this.value(name);
    if (allowed.includes(value)) return;
    const list = allowed.map((one) => JSON.stringify(one)).join(", ");
    throw this.error(`${name} is ${JSON.stringify(value)}; supported: ${list}`);
  }

  /** Refuses a setting that is on: present, no empty list or object, and none of the values that mean "off". */
  expectOff(name: string, off: readonly unknown[]): void {
    const value = this.value(name);
    const isEmpty = value === null || (typeof value === "object" && Object.keys(value).length === 0);
    if (!isEmpty && !off.includes(value))
      throw this.error(`${name} is ${JSON.stringify(value)}, which is not supported here`);
  }
}

function parse(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** JSON as the Python tools write it: keys sorted, indented by two. `floats`: keys whose whole numbers get a point. */
export function sortedJson(value: Readonly<Record<string, unknown>>, floats: readonly string[] = []): string {
  const sorted = (_: string, inner: unknown): unknown =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner;
  let text = JSON.stringify(value, sorted, 2);
  for (const key of floats) text = text.replace(new RegExp(`("${key}": -?\\d+)(,?\\n)`, "g"), "$1.0$2");
  return `${text}\n`;
}
