import { GpuError } from "./errors.ts";

/** What the text of a kernel says about itself, for one entry point. */
export interface EntryLayout {
  /** Storage that the entry point reaches, in binding order. */
  readonly bindings: readonly StorageBinding[];
  /** Fields of `struct Params`, or null when the entry point has no parameters. */
  readonly params: ParamsLayout | null;
}

export interface StorageBinding {
  readonly name: string;
  readonly binding: number;
  readonly writes: boolean;
  /** A storage texture of rgba32float that is read, instead of a buffer; see gpu/scratch.ts. */
  readonly isTexture: boolean;
}

export interface ParamsLayout {
  readonly binding: number;
  readonly bytes: number;
  readonly fields: readonly ParamField[];
}

export interface ParamField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
  /** In 4-byte words. */
  readonly offset: number;
  /** 1 for a scalar; 4 n for an array<vec4, n>. */
  readonly count: number;
}

/** Appends every file named by a `// use: NAME` line, once each. `replace` swaps one library for another. */
export function resolveUses(
  name: string,
  text: (name: string) => string,
  replace: Readonly<Record<string, string>> = {},
): string {
  const seen = new Set<string>();
  const parts: string[] = [];
  const visit = (file: string): void => {
    const actual = replace[file] ?? file;
    if (seen.has(actual)) return;
    seen.add(actual);
    const source = text(actual);
    parts.push(source);
    for (const match of source.matchAll(/^\/\/ use: (\S+)\s*$/gm)) visit(match[1] as string);
  };
  visit(name);
  const code = parts.join("\n");
  const words = stripComments(code);
  const needed = EXTENSIONS.filter(([, pattern]) => pattern.test(words)).map(([name]) => `${name}; `);
  // On the first line of the text, so that its lines keep their numbers in errors.
  return `${needed.join("")}${code}`;
}

/** What stands in front of WGSL that needs it, and how a text shows that it does. */
const EXTENSIONS: readonly (readonly [directive: string, pattern: RegExp])[] = [
  // The compiler cannot see that threads of a subgroup agree on an offset that depends on the number of the subgroup.
  ["diagnostic(off, chromium.subgroup_matrix_uniformity)", /\bsubgroupMatrix/],
  // Nor that they agree on what a subgroup has found together.
  ["diagnostic(off, subgroup_uniformity)", /\bsubgroup(Add|Max)\b/],
  ["enable f16", /\b(f16|vec[234]h)\b/],
  ["enable subgroups", /\bsubgroup(?!Matrix|_matrix)([A-Z]|_)/],
  ["enable chromium_experimental_subgroup_matrix", /\bsubgroup(Matrix|_matrix)/],
];

/**
 * Replaces the right-hand side of named top-level declarations: `alias T = f32;`, `const TILE: u32 = 4u;`,
 * or the expression of a one-line function `fn value(x: T) -> T { return x; }`. An unknown name is an error.
 */
export function specialise(
  label: string,
  code: string,
  values: Readonly<Record<string, string | number>>,
): string {
  let result = code;
  for (const [name, value] of Object.entries(values)) {
    const pattern = new RegExp(
      `^(alias ${name} = |const ${name}: \\w+ = |fn ${name}\\([^)]*\\) -> \\w+ \\{ return )[^;\\n]*(;)`,
      "m",
    );
    if (!pattern.test(result))
      throw new GpuError(`${label}: no top-level declaration named ${name} to specialise`);
    // A function as replacement: "$" in an expression has no meaning.
    result = result.replace(pattern, (_all, head: string, tail: string) => `${head}${value}${tail}`);
  }
  return result;
}

/** Reads which bindings and parameters one entry point reaches. */
export function entryLayout(label: string, code: string, entry: string): EntryLayout {
  const text = stripComments(code);
  const functions = functionBodies(text);
  if (!functions.has(entry)) throw new GpuError(`${label}: no entry point ${entry}`);
  const used = reachable(functions, entry);
  const bindings: StorageBinding[] = [];
  let params: ParamsLayout | null = null;
  const declaration = /@group\(0\)\s*@binding\((\d+)\)\s*var<(\w+)(?:\s*,\s*(\w+))?>\s*(\w+)\s*:/g;
  for (const [, binding, space, access, name] of text.matchAll(declaration)) {
    if (!used.has(name as string)) continue;
    if (space === "uniform") params = paramsLayout(label, text, Number(binding));
    else {
      const writes = access === "read_write";
      bindings.push({ name: name as string, binding: Number(binding), writes, isTexture: false });
    }
  }
  const texture =
    /@group\(0\)\s*@binding\((\d+)\)\s*var\s+(\w+)\s*:\s*texture_storage_2d<rgba32float,\s*read>/g;
  for (const [, binding, name = ""] of text.matchAll(texture))
    if (used.has(name)) bindings.push({ name, binding: Number(binding), writes: false, isTexture: true });
  bindings.sort((a, b) => a.binding - b.binding);
  return { bindings, params };
}

function paramsLayout(label: string, text: string, binding: number): ParamsLayout {
  const body = /struct Params \{([^}]*)\}/.exec(text)?.[1];
  if (body === undefined) throw new GpuError(`${label}: a uniform binding needs "struct Params"`);
  const fields: ParamField[] = [];
  let offset = 0;
  const found = [...body.matchAll(/(\w+)\s*:\s*(u32|i32|f32|array<vec4([uif]),\s*(\d+)>)\s*(?:,|$)/g)];
  const declared = body.match(/:/g)?.length ?? 0;
  if (found.length !== declared) {
    throw new GpuError(
      `${label}: ${declared - found.length} of ${declared} fields of Params are not u32, i32, f32 or array<vec4_, n>`,
    );
  }
  for (const [, name, type, scalar, n] of found) {
    const isArray = scalar !== undefined;
    if (isArray) offset = Math.ceil(offset / 4) * 4;
    const count = isArray ? 4 * Number(n) : 1;
    const base = isArray
      ? ({ u: "u32", i: "i32", f: "f32" } as const)[scalar as "u" | "i" | "f"]
      : (type as "u32");
    fields.push({ name: name as string, type: base, offset, count });
    offset += count;
  }
  return { binding, bytes: Math.ceil(offset / 4) * 16, fields };
}

function stripComments(code: string): string {
  return code.replace(/\/\/[^\n]*/g, "");
}

function functionBodies(text: string): Map<string, string> {
  const bodies = new Map<string, string>();
  for (const match of text.matchAll(/\bfn\s+(\w+)\s*\(/g)) {
    const open = text.indexOf("{", match.index);
    let depth = 0;
    let end = open;
    for (; end < text.length; end++) {
      if (text[end] === "{") depth++;
      else if (text[end] === "}" && --depth === 0) break;
    }
    bodies.set(match[1] as string, text.slice(open, end));
  }
  return bodies;
}

function reachable(functions: ReadonlyMap<string, string>, entry: string): Set<string> {
  const seen = new Set<string>();
  const visited = new Set<string>();
  const visit = (name: string): void => {
    visited.add(name);
    // Names after a dot are members, not declarations.
    for (const [, word = "", call] of (functions.get(name) ?? "").matchAll(
      /(?<![.\w])([A-Za-z_]\w*)(\s*\()?/g,
    )) {
      seen.add(word);
      // A variable may have the name of a function: only calls are followed.
      if (call && !visited.has(word)) visit(word);
    }
  };
  visit(entry);
  return seen;
}
