import type { z } from "zod";
import { nearest } from "../array/index.ts";
import { CONFIG_KEYS } from "./config.ts";

/** What is wrong with a config, in one line: each fault with its key, its value and the way out. */
export function describeIssues(issues: readonly z.core.$ZodIssue[], input: unknown): string {
  return issues.map((issue) => describeIssue(issue, input)).join("; ");
}

function describeIssue(issue: z.core.$ZodIssue, input: unknown): string {
  const name = issue.path.join(".");
  const value = valueAt(input, issue.path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => unknownKey(name === "" ? key : `${name}.${key}`)).join("; ");
    case "invalid_value":
      if (value === undefined) return `${name} is missing: one of ${issue.values.map(String).join(", ")}`;
      return `${name} is ${JSON.stringify(value)}, expected one of ${issue.values.map(String).join(", ")}`;
    case "invalid_type":
      if (value === undefined) return `${name} is missing`;
      return `${name || "the config"} is ${shown(value)}, expected ${article(issue.expected)}`;
    case "too_small":
      return `${name} is ${shown(value)}, expected ${bound(issue.origin)}${issue.inclusive ? "at least" : "more than"} ${issue.minimum}`;
    case "too_big":
      return `${name} is ${shown(value)}, expected ${bound(issue.origin)}${issue.inclusive ? "at most" : "less than"} ${issue.maximum}`;
    case "invalid_union": {
      const unknown = issue.errors.flat().find(({ code }) => code === "unrecognized_keys");
      if (unknown) return describeIssue({ ...unknown, path: [...issue.path, ...unknown.path] }, input);
      return `${name} is ${shown(value)}, ${issue.message}`;
    }
    default:
      return `${name}: ${issue.message}`;
  }
}

/** `unknown key "training.lrr"; near: training.lr` */
export function unknownKey(name: string): string {
  const known = Object.entries(CONFIG_KEYS).flatMap(([section, keys]) =>
    keys.map((key) => (section === "" ? key : `${section}.${key}`)),
  );
  const near = nearest(name, known);
  const section = name.includes(".") ? name.slice(0, name.indexOf(".")) : "";
  const hint = near.length > 0 ? `near: ${near.join(", ")}` : `known: ${CONFIG_KEYS[section]?.join(", ")}`;
  return `unknown key "${name}"; ${hint}`;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path)
    value = typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
  return value;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function bound(origin: string): string {
  return origin === "array" ? "a list of " : origin === "string" ? "a text of " : "";
}

function article(expected: string): string {
  if (expected === "int") return "a whole number";
  if (expected === "object") return "a section of keys";
  if (expected === "array") return "a list";
  if (expected === "boolean") return "true or false";
  return `a ${expected}`;
}
