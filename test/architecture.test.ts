import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const engine = [
  "array",
  "autograd",
  "gpu",
  "io",
  "models",
  "nn",
  "ops",
  "optim",
  "peft",
  "platform",
] as const;

/**
 * What a folder of src/ may import; type-only imports count too. Imports point down; folders of one row do not
 * import each other, but for io, which models load through. peft never sees models.
 */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  platform: [],
  data: [],
  gpu: ["platform"],
  array: ["gpu"],
  ops: ["array", "gpu"],
  autograd: ["ops", "array", "gpu"],
  nn: ["autograd", "ops", "array", "gpu"],
  optim: ["autograd", "ops", "array", "gpu"],
  io: ["autograd", "array", "platform"],
  models: ["nn", "io", "autograd", "array", "gpu"],
  peft: ["nn", "autograd", "ops", "array", "gpu"],
  formats: ["models", "io", "platform"],
  train: [...engine, "data", "formats"],
  report: ["data", "platform"],
  cli: [...engine, "data", "formats", "train", "report"],
};

/** What the engine may take from npm; data, train, report, cli and io/hub may take any declared dependency. */
const packagesOfEngine: Readonly<Record<string, readonly string[]>> = {
  platform: ["webgpu"],
  gpu: ["webgpu"],
};
const packagesEverywhere = ["@petamoriken/float16"];

const LINES_WANTED = 400;
const LINES_ALLOWED = 450;

interface Source {
  /** Path from the root, with "/". */
  readonly path: string;
  readonly folder: string;
  readonly text: string;
  /** The text without comments and the content of strings. */
  readonly code: string;
  readonly imports: readonly string[];
}

const sources = filesUnder("src", /\.ts$/).map(readSource);

const architecture = suite("architecture");

architecture("the checks see imports and code as they are", () => {
  const text = `import type { A } from "./a.ts";\nexport {\n  b,\n} from "./b.ts"; // from "./no.ts"\nawait import("c");\nimport "./d.ts";`;
  assert.equal(importsOf(text), ["./a.ts", "./b.ts", "./d.ts", "c"]);
  assert.is(codeOf('a = "Math.random"; // any\n/* enum */ b'), 'a = "";  \n  b');
  assert.is(resolveImport("src/ops/gelu.ts", "../gpu/index.ts"), "src/gpu/index.ts");
  assert.ok(sources.length > 10);
});

architecture("a folder of src/ imports only what its layer allows", () => {
  const wrong: string[] = [];
  for (const { path, folder, imports } of sources) {
    if (path === "src/index.ts") continue;
    const allowed = mayImport[folder];
    if (!allowed) wrong.push(`${path}: src/${folder} is not in the table of layers`);
    for (const target of imports.filter(isRelative)) {
      const other = folderOf(resolveImport(path, target));
      if (other !== folder && !allowed?.includes(other)) wrong.push(`${path} imports ${target}`);
    }
  }
  none(wrong);
});

architecture("every relative import ends in .ts and meets a file of src/", () => {
  const wrong: string[] = [];
  for (const { path, imports } of sources) {
    for (const target of imports.filter(isRelative)) {
      const file = resolveImport(path, target);
      if (!sources.some((source) => source.path === file)) wrong.push(`${path} imports ${target}`);
    }
  }
  none(wrong);
});

architecture("only src/platform imports node:*", () => {
  const wrong = pairs(
    (source) => source.folder !== "platform" && source.imports.filter((name) => /^node:/.test(name)),
  );
  none(wrong);
});

architecture("the engine below src/train needs no global of Node", () => {
  const wrong = pairs(({ folder, code }) => {
    if (folder === "platform" || !([...engine, "data"] as readonly string[]).includes(folder)) return [];
    return code.match(/(?<![.\w])(process|Buffer|__dirname|require|setImmediate)(?=[.([])/g) ?? [];
  });
  none(wrong);
});

architecture("packages are declared, and the engine takes webgpu and float16 alone", () => {
  const manifest = readJson("package.json");
  const declared = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies });
  const wrong = pairs(({ path, folder, imports }) => {
    const isFree = !(engine as readonly string[]).includes(folder) || path.startsWith("src/io/hub");
    const allowed = isFree ? declared : [...packagesEverywhere, ...(packagesOfEngine[folder] ?? [])];
    return imports.filter(isPackage).filter((name) => !allowed.includes(packageOf(name)));
  });
  none(wrong);
});

architecture("no import cycles", () => {
  const graph = new Map(
    sources.map(({ path, imports }) => [
      path,
      imports.filter(isRelative).map((to) => resolveImport(path, to)),
    ]),
  );
  const done = new Set<string>();
  const visit = (path: string, above: readonly string[]): void => {
    const at = above.indexOf(path);
    if (at >= 0) throw new Error(`import cycle: ${[...above.slice(at), path].join(" -> ")}`);
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...above, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
});

const banned: readonly (readonly [what: string, pattern: RegExp])[] = [
  ["a default export", /\bexport\s+default\b|\bas\s+default\b/],
  ["export *", /\bexport\s+(type\s+)?\*/],
  ["an enum", /\benum\s+\w+\s*\{/],
  ["a namespace", /^\s*(export\s+)?(declare\s+)?namespace\s+\w+/m],
  ["any", /(:|<|\||&|=>|\bas|\bsatisfies)\s*any\b(?!\s*[(.:])|<[^>(){};]*,\s*any\s*[>,[]/],
  ["Math.random", /\bMath\s*\.\s*random\b/],
  ["a switched-off check", /@ts-(ignore|nocheck|expect-error)/],
];

for (const [what, pattern] of banned) {
  architecture(`src/ holds no ${what.replace(/^an? /, "")}`, () => {
    none(sources.filter(({ code }) => pattern.test(code)).map(({ path }) => `${path} has ${what}`));
  });
}

architecture("no file has more lines than a reader holds in mind", () => {
  const wrong: string[] = [];
  for (const folder of ["src", "shaders", "test", "bench", "examples"]) {
    for (const path of filesUnder(folder, /\.(ts|wgsl)$/)) {
      const nLines = read(path).split("\n").length - 1;
      if (nLines > LINES_ALLOWED) wrong.push(`${path} has ${nLines} lines, allowed are ${LINES_ALLOWED}`);
      else if (nLines > LINES_WANTED)
        console.log(`long: ${path} has ${nLines} lines, wanted are ${LINES_WANTED}`);
    }
  }
  none(wrong);
});

architecture("file names are kebab-case and say what is inside", () => {
  const vague = /(^|[-/])(utils?|helpers?|common|misc|types)\.ts$/;
  const names = sources.map(({ path }) => path);
  none(names.filter((path) => vague.test(path) || !/^[a-z0-9./-]+$/.test(path)));
});

architecture("every entry of package.json has a source", () => {
  const { exports, bin } = readJson("package.json");
  const built = Object.values(exports as Record<string, string | { default: string }>)
    .map((entry) => (typeof entry === "string" ? entry : entry.default))
    .concat(Object.values(bin as Record<string, string>))
    .filter((path) => path.endsWith(".js"));
  const wanted = built.map((path) => path.replace(/^(\.\/)?dist\//, "src/").replace(/\.js$/, ".ts"));
  none(wanted.filter((path) => !existsSync(join(root, path))));
});

architecture("examples use the public API alone", () => {
  const wrong: string[] = [];
  for (const { path, imports } of filesUnder("examples", /\.ts$/).map(readSource)) {
    for (const name of imports.filter((name) => !/^(adamix(\/\w+)?|node:\w+|\.\/.*)$/.test(name))) {
      const isEntry =
        isRelative(name) &&
        /^src\/((nn|optim|models|peft|data|train)\/)?index\.ts$/.test(resolveImport(path, name));
      if (!isEntry) wrong.push(`${path} imports ${name}`);
    }
  }
  none(wrong);
});

architecture("no committed file names a place on one machine", () => {
  const folders = ["src", "shaders", "test", "bench", "examples", "docs", ".ci"];
  const files = folders.flatMap((folder) =>
    filesUnder(folder, /\.(ts|wgsl|md|json|mjs|yaml|txt)$|^\.ci\/run$/),
  );
  files.push(...readdirSync(root).filter((name) => /\.(md|json)$/.test(name) || name === ".npmrc"));
  const place = /(?<![\w.~:/])\/(home|root|Users|work|workspace)\/\w/;
  none(
    files
      .filter((path) => place.test(read(path)))
      .map((path) => `${path}: ${place.exec(read(path))?.[0]}...`),
  );
});

architecture("the lockfile names no registry: each user's own serves it", () => {
  const { packages } = readJson("package-lock.json");
  const urls = Object.values(packages as Record<string, { resolved?: string }>).flatMap(
    ({ resolved }) => resolved ?? [],
  );
  none(urls);
});

architecture.run();

function none(wrong: readonly string[]): void {
  if (wrong.length === 0) return;
  const error = new Error(`architecture: ${wrong.length} wrong:\n    ${wrong.join("\n    ")}`);
  error.stack = error.name; // the report would repeat the list as part of the stack
  throw error;
}

/** `path: finding` for each finding in each source. */
function pairs(find: (source: Source) => readonly string[] | false): string[] {
  return sources.flatMap((source) =>
    [...new Set(find(source) || [])].map((what) => `${source.path}: ${what}`),
  );
}

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

// biome-ignore lint/suspicious/noExplicitAny: the shape of a manifest is checked by what reads it
function readJson(path: string): Record<string, any> {
  return JSON.parse(read(path));
}

function filesUnder(folder: string, pattern: RegExp): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
    .filter((name) => pattern.test(name) && !name.includes("node_modules/"))
    .sort();
}

function readSource(path: string): Source {
  const text = read(path);
  return { path, folder: folderOf(path), text, code: codeOf(text), imports: importsOf(text) };
}

/** "ops" for src/ops/gelu.ts. */
function folderOf(path: string): string {
  return path.split("/")[1] ?? "";
}

function importsOf(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const statements = code.matchAll(
    /^\s*(?:import|export)\b[^;"'()]*?\bfrom\s*"([^"]+)"|^\s*import\s*"([^"]+)"/gm,
  );
  const calls = code.matchAll(/\bimport\(\s*"([^"]+)"\s*\)/g);
  return [...statements, ...calls].flatMap((match) => match[1] ?? match[2] ?? []);
}

/** Blanks comments and strings, in one pass so that a quote in a comment opens no string. */
function codeOf(text: string): string {
  const parts =
    /\/\*[\s\S]*?\*\/|(?<!:)\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;
  return text.replace(parts, (part) => (part.includes("@ts-") ? part : part.startsWith("/") ? " " : '""'));
}

function resolveImport(from: string, target: string): string {
  return posix.normalize(posix.join(posix.dirname(from), target));
}

function isRelative(name: string): boolean {
  return name.startsWith(".");
}

function isPackage(name: string): boolean {
  return !isRelative(name) && !name.startsWith("node:");
}

function packageOf(name: string): string {
  return name
    .split("/")
    .slice(0, name.startsWith("@") ? 2 : 1)
    .join("/");
}
