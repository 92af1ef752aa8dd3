import { isMap, parse, parseDocument } from "yaml";
import { absolutePath, readText } from "../platform/index.ts";
import { type ConfigInput, configSchema, TASKS } from "./config.ts";
import { describeIssues } from "./config-issues.ts";
import { UsageError } from "./failure.ts";

/** One value of the command line under its dotted key. */
export interface Override {
  readonly key: string;
  readonly value: unknown;
  /** The flag it came from, for messages. */
  readonly flag: string;
}

/** Reads a config file (YAML; JSON is YAML) if there is one, lays the overrides over it, and checks the result. */
export function readConfig(file: string | undefined, overrides: readonly Override[]): ConfigInput {
  const input = file === undefined ? {} : parseFile(file);
  for (const override of overrides) assign(input, override);
  input.task = usualName(input.task);
  const checked = configSchema.safeParse(input);
  if (checked.success) return checked.data;
  throw new UsageError(`${file ?? "config"}: ${describeIssues(checked.error.issues, input)}`);
}

/** `a.b=c` of --set; c is YAML. */
export function parseSet(text: string): Override {
  const at = text.indexOf("=");
  if (at < 1) throw new UsageError(`--set ${text}: expected key=value, as in --set training.lr=3e-4`);
  const flag = `--set ${text}`;
  return { key: text.slice(0, at).trim(), value: parseValue(text.slice(at + 1), flag), flag };
}

/** A value of the command line as YAML reads it: 3e-4, true, [query, value]. */
export function parseValue(text: string, flag: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(`${flag}: ${firstLine(error)}`);
  }
}

function parseFile(file: string): Record<string, unknown> {
  const document = parseDocument(readText(absolutePath(file)), { prettyErrors: true });
  const [error] = document.errors;
  if (error) throw new UsageError(`${file}: ${firstLine(error)}`);
  if (document.contents === null) return {};
  if (!isMap(document.contents))
    throw new UsageError(`${file}: expected keys and values, as in "task: sst2"`);
  return document.toJS() as Record<string, unknown>; // a map with scalar keys
}

function assign(input: Record<string, unknown>, { key, value, flag }: Override): void {
  const parts = key.split(".");
  const last = parts.pop() ?? "";
  let section = input;
  for (const part of parts) {
    const inner = Object.hasOwn(section, part) ? (section[part] ?? {}) : {};
    if (typeof inner !== "object" || Array.isArray(inner))
      throw new UsageError(`${flag}: "${part}" is ${JSON.stringify(inner)}, which has no keys`);
    section[part] = inner;
    section = inner as Record<string, unknown>; // an object that is no list
  }
  section[last] = value;
}

/** A task under the name that the config knows: "STS-B" and "sts-b" are stsb. */
function usualName(task: unknown): unknown {
  if (typeof task !== "string") return task;
  const plain = task.toLowerCase().replace(/[-_ ]/g, "");
  return TASKS.includes(plain) ? plain : task;
}

function firstLine(error: unknown): string {
  return ((error as Error).message.split("\n")[0] ?? "").replace(/:$/, "");
}
