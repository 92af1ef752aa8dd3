// What npm would publish, and whether it works for somebody who has nothing else: the packed package is installed
// into an empty folder, the program of README.md is compiled against it under strict settings, and run.
import { execFile, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { skipped } from "./skip.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const run = promisify(execFile);
const isWindows = process.platform === "win32"; // where npm is a script of the shell
const MINUTE_MS = 60_000;

/** As strict as a consumer can be; `skipLibCheck` is off, and `lib` is TypeScript's default. */
const CONSUMER = {
  compilerOptions: {
    module: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    types: [],
    outDir: "out",
  },
  files: ["program.ts"],
};

const contents = suite("package contents");
let paths: readonly string[] = [];

contents.before(async () => {
  build();
  const [packed] = await npm(root, ["pack", "--dry-run", "--json", "--ignore-scripts"]);
  paths = (packed as { files: { path: string }[] }).files.map(({ path }) => path);
});

contents("what the manifest names is there", () => {
  const { exports, bin } = manifest as {
    exports: Record<string, string | Record<string, string>>;
    bin: Record<string, string>;
  };
  const named = Object.values(exports).flatMap((entry) =>
    typeof entry === "string" ? [entry] : Object.values(entry),
  );
  const wanted = [...named, ...Object.values(bin)].map((path) => path.replace(/^\.\//, ""));
  for (const path of [...wanted, "LICENSE", "NOTICE", "README.md"]) assert.ok(paths.includes(path), path);
});

contents("every shader and asset is there", () => {
  for (const folder of ["shaders", "assets"]) {
    const missing = filesUnder(folder).filter((path) => !paths.includes(path));
    assert.equal(missing, []);
  }
  assert.ok(paths.includes("shaders/lib/philox.wgsl"));
});

contents("nothing else is: no tests, no sources, no benchmarks", () => {
  const allowed = /^(dist|shaders|assets|examples)\/|^(package\.json|[A-Z]+\.md|LICENSE|NOTICE)$/;
  assert.equal(
    paths.filter((path) => !allowed.test(path) || /\.test\.|\/golden\//.test(path)),
    [],
  );
});

contents.run();

const consumer = suite("package, installed");
const folder = mkdtempSync(join(tmpdir(), "adamix-package-"));

consumer.before(async () => {
  build();
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const [packed] = await npm(root, pack);
  await install(join(folder, (packed as { filename: string }).filename));
});
consumer.after(() => rmSync(folder, { recursive: true, force: true }));

consumer("the program of README.md has at most 15 lines and compiles under strict settings", async () => {
  const program = programOfReadme();
  assert.ok(program.split("\n").filter((line) => line.trim() !== "").length <= 15);
  writeFileSync(join(folder, "program.ts"), program);
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(CONSUMER));
  await compile();
});

consumer("every entry can be imported, with its types", async () => {
  const names = Object.keys(manifest.exports).filter((path) => path !== "./package.json");
  const imports = names.map((path, i) => `import * as entry${i} from "${manifest.name}${path.slice(1)}";`);
  const uses = names.map((_, i) => `export const n${i}: number = Object.keys(entry${i}).length;`);
  writeFileSync(join(folder, "entries.ts"), [...imports, ...uses].join("\n"));
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ ...CONSUMER, files: ["entries.ts"] }));
  await compile();
  const { n0 } = await import(join(folder, "out", "entries.js"));
  assert.ok(n0 > 10);
});

const encoder = "assets/encoder/model.safetensors";
if (!existsSync(join(root, encoder))) skipped(consumer, "the program of README.md runs", `no ${encoder}`);
else {
  consumer("the program of README.md runs", async () => {
    const { stdout } = await run(process.execPath, [join("out", "program.js")], {
      cwd: folder,
      timeout: 5 * MINUTE_MS,
    });
    assert.match(stdout.trim(), /^(negative|positive|neutral)$/);
  });
}

consumer.run();

const documents = suite("documents");
const texts = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md"];

for (const name of texts) {
  documents(`${name} names files that exist`, () => {
    const missing = namedFiles(name).filter((path) => !existsSync(join(root, path)));
    assert.equal(missing, []);
  });
}

documents.run();

/** dist/ may be older than src/ where this file is run by itself. */
function build(): void {
  const { status } = spawnSync(process.execPath, [join(root, ".ci", "setup.mjs")], { stdio: "inherit" });
  if (status !== 0) throw new Error("package: dist/ cannot be built; npm run build says why");
}

async function npm(cwd: string, words: readonly string[]): Promise<unknown[]> {
  const { stdout } = await run("npm", [...words], { cwd, shell: isWindows, timeout: 3 * MINUTE_MS });
  return stdout.trim().startsWith("[") ? JSON.parse(stdout) : [];
}

/** Installs from npm's cache alone; where that lacks something, unpacks and links what this clone has. */
async function install(tarball: string): Promise<void> {
  const modules = join(folder, "node_modules");
  try {
    await npm(folder, ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", tarball]);
  } catch {
    rmSync(modules, { recursive: true, force: true });
    const own = join(modules, manifest.name);
    mkdirSync(own, { recursive: true });
    await run("tar", ["-xzf", tarball, "-C", own, "--strip-components=1"]);
    for (const name of Object.keys(manifest.dependencies)) link(name);
  }
  link("@sparticuz/chromium"); // the optional driver of machines without one
}

function link(name: string): void {
  const target = join(root, "node_modules", name);
  const path = join(folder, "node_modules", name);
  if (!existsSync(target) || existsSync(path)) return;
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(target, path, "junction");
}

async function compile(): Promise<void> {
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  try {
    await run(process.execPath, [compiler, "-p", folder], { cwd: folder, timeout: 3 * MINUTE_MS });
  } catch (error) {
    const { stdout = "", message } = error as { stdout?: string; message: string };
    throw new Error(`tsc: ${stdout.trim().split("\n").slice(0, 3).join("\n") || message}`);
  }
}

/** The first TypeScript of the README. */
function programOfReadme(): string {
  const program = /^```ts\n([\s\S]*?)^```$/m.exec(readFileSync(join(root, "README.md"), "utf8"))?.[1];
  if (!program) throw new Error("README.md: no ```ts block");
  return program;
}

/** Targets of links, and paths and tests in backquotes; patterns are left out. */
function namedFiles(document: string): string[] {
  const text = readFileSync(join(root, document), "utf8").replace(/^```[\s\S]*?^```/gm, "");
  const links = [...text.matchAll(/\]\(([^):#]+)\)/g)].map((match) =>
    join(dirname(document), match[1] as string),
  );
  const quoted = [...text.matchAll(/`((?:src|test|shaders|bench|examples|\.ci)\/[\w./-]+)`/g)];
  const tests = [...text.matchAll(/`([\w-]+\.(?:test|table)\.ts)`/g)];
  return [
    ...links,
    ...quoted.map((match) => match[1] as string),
    ...tests.map((match) => `test/${match[1]}`),
  ];
}

function filesUnder(name: string): string[] {
  const path = join(root, name);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length).replaceAll("\\", "/"));
}
