import { FormatError } from "../io/index.ts";

const KINDS = {
  size: { expected: "a whole number of 1 or more", fits: (n: number) => Number.isInteger(n) && n >= 1 },
  index: { expected: "a whole number", fits: (n: number) => Number.isInteger(n) && n >= 0 },
  share: { expected: "a share p, 0 <= p < 1", fits: (n: number) => n >= 0 && n < 1 },
  positive: { expected: "a number above 0", fits: (n: number) => Number.isFinite(n) && n > 0 },
} as const;
export type NumberKind = keyof typeof KINDS;

/** Reads the settings of a config.json one by one: each is of its kind, or one FormatError says what it is. */
export class ConfigReader {
  readonly #source: Readonly<Record<string, unknown>>;

  constructor(json: unknown) {
    if (typeof json !== "object" || json === null || Array.isArray(json))
      throw new FormatError("config: not a JSON object");
    this.#source = { ...json };
  }

  /** The value as it is; null where it is absent. */
  value(name: string): unknown {
    return this.#source[name] ?? null;
  }

  /** Refuses every architecture but the known ones. */
  architecture<T extends string>(known: readonly T[]): T {
    if (this.value("model_type") === null) {
      const list = known.map((one) => JSON.stringify(one)).join(", ");
      throw new FormatError(`config: no "model_type"; supported: ${list}`);
    }
    return this.choice("model_type", known, known[0] as T);
  }

  number(name: string, kind: NumberKind, fallback?: number): number {
    const value = this.value(name) ?? fallback;
    const { expected, fits } = KINDS[kind];
    if (typeof value === "number" && fits(value)) return value;
    const given = value === undefined ? "missing" : JSON.stringify(value);
    throw new FormatError(`config: ${name} is ${given}, expected ${expected}`);
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.value(name) ?? fallback;
    if (typeof value === "boolean") return value;
    throw new FormatError(`config: ${name} is ${JSON.stringify(value)}, expected true or false`);
  }

  /** One of the known values. */
  choice<T extends string>(name: string, known: readonly T[], fallback: T): T {
    const value = this.value(name) ?? fallback;
    const found = known.find((one) => one === value);
    if (found !== undefined) return found;
    const list = known.map((one) => JSON.stringify(one)).join(", ");
    throw new FormatError(`config: ${name} is ${JSON.stringify(value)}; supported: ${list}`);
  }

  /** Settings of which only some values are supported: another would change results without a word. */
  expect(fixed: Readonly<Record<string, readonly unknown[]>>): void {
    for (const [name, allowed] of Object.entries(fixed)) {
      const value = this.value(name);
      if (value === null || allowed.includes(value)) continue;
      const list = allowed.map((one) => JSON.stringify(one)).join(", ");
      throw new FormatError(`config: ${name} is ${JSON.stringify(value)}; supported: ${list}`);
    }
  }

  /** One token id, a list of them, or none. */
  ids(name: string): number[] {
    const value = this.value(name) ?? [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    const ids = list.filter((id) => typeof id === "number" && Number.isInteger(id) && id >= 0) as number[];
    if (ids.length === list.length) return ids;
    throw new FormatError(
      `config: ${name} is ${JSON.stringify(value)}, expected a token id or a list of them`,
    );
  }
}

/** Refuses channels that do not split into heads. */
export function expectHeads(name: string, channels: number, heads: number): void {
  if (channels % heads !== 0)
    throw new FormatError(`config: ${name} ${channels} does not split into ${heads} heads`);
}

/** Ids as config.json has them: one as a number, none as null. */
export function oneOrAll(ids: readonly number[]): number | readonly number[] | null {
  return ids.length > 1 ? ids : (ids[0] ?? null);
}

/** The same as a list. */
export function idsIn(value: number | readonly number[] | null): readonly number[] {
  return value === null ? [] : typeof value === "number" ? [value] : value;
}
