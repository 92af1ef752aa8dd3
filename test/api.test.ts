// The names that each entry of the package exports, compared with golden/api.txt.
//
//     ADAMIX_UPDATE_GOLDEN=1 npm test -- api      writes golden/api.txt anew
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const root = new URL("..", import.meta.url);
const golden = new URL("test/golden/api.txt", root);
const isUpdating = process.env.ADAMIX_UPDATE_GOLDEN === "1";

const api = suite("api");

api("the exported names are those of golden/api.txt", () => {
  const actual = entries().map(describe).join("\n");
  if (isUpdating) writeFileSync(golden, actual);
  const expected = existsSync(golden) ? readFileSync(golden, "utf8") : "";
  const changes = [...missing(expected, actual, "gone"), ...missing(actual, expected, "new")];
  if (changes.length > 0) {
    throw new Error(
      `api: ${changes.length} changes of the public API; if they are wanted, say so in CHANGELOG.md and run ` +
        `ADAMIX_UPDATE_GOLDEN=1 npm test -- api\n    ${changes.join("\n    ")}`,
    );
  }
});

for (const entry of entries()) {
  api(`${entry.name} exports its values at run time`, async () => {
    const module: Record<string, unknown> = await import(entry.source.href);
    const values = namesOf(entry).filter((name) => !name.startsWith("type "));
    assert.equal(Object.keys(module).sort(), values.sort());
    for (const name of values) assert.is.not(module[name], undefined, name);
  });
}

api.run();

interface Entry {
  /** As a program imports it: "adamix/nn". */
  readonly name: string;
  readonly source: URL;
}

/** The entries of package.json, with the sources that they are built from. */
function entries(): Entry[] {
  const manifest = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
  return Object.entries<string | { default: string }>(manifest.exports).flatMap(([path, target]) => {
    if (typeof target === "string") return []; // package.json itself
    const source = target.default.replace("./dist/", "src/").replace(/\.js$/, ".ts");
    return [{ name: `${manifest.name}${path.slice(1)}`, source: new URL(source, root) }];
  });
}

/** "Tensor" or "type Shape" for each export. Entries only export by name, which architecture.test.ts checks. */
function namesOf({ source }: Entry): string[] {
  const text = readFileSync(source, "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
  const names: string[] = [];
  for (const [, isType, list = ""] of text.matchAll(/\bexport\s+(type\s+)?\{([^}]*)\}/g)) {
    for (const part of list.split(",")) {
      const words = part.trim().split(/\s+/);
      const name = words.at(-1);
      if (name) names.push(isType || words[0] === "type" ? `type ${name}` : name);
    }
  }
  if (names.length === 0) throw new Error(`${fileURLToPath(source)}: no exports found`);
  return names;
}

function describe(entry: Entry): string {
  const byName = (a: string, b: string): number => (bare(a) < bare(b) ? -1 : 1);
  return `${entry.name}\n${namesOf(entry)
    .sort(byName)
    .map((name) => `  ${name}\n`)
    .join("")}`;
}

function bare(name: string): string {
  return name.replace(/^type /, "");
}

/** "gone: adamix/nn Linear" for each name of `from` that `of` lacks under the same entry. */
function missing(from: string, of: string, what: string): string[] {
  const known = new Set(qualified(of));
  return qualified(from)
    .filter((name) => !known.has(name))
    .map((name) => `${what}: ${name}`);
}

function qualified(text: string): string[] {
  let entry = "";
  return text.split("\n").flatMap((line) => {
    if (!line.startsWith("  ")) entry = line;
    return line.startsWith("  ") ? [`${entry} ${line.trim()}`] : [];
  });
}
