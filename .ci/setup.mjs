// Makes a clone ready to run: installs what package-lock.json names where node_modules lacks it, and builds
// dist/ where it is missing or older than src/. Says nothing when there is nothing to do. `--force` builds
// in any case. As npm's `prepare` script it builds only.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const inRoot = (...parts) => join(root, ...parts);
const stamp = inRoot("node_modules", ".cache", "adamix", "built");

const preparing = process.env.npm_lifecycle_event === "prepare";
if (!preparing && !isInstalled()) run("npm", ["ci", "--no-audit", "--no-fund"], "install");
if (process.argv.includes("--force") || !isBuilt()) build();

/** Whether node_modules holds every package of the lockfile at its version. */
function isInstalled() {
  const installed = readPackages(inRoot("node_modules", ".package-lock.json"));
  if (!installed) return false;
  const wanted = readPackages(inRoot("package-lock.json")) ?? {};
  for (const [path, { version, optional, peer }] of Object.entries(wanted)) {
    const found = installed[path];
    if (path === "" || (!found && (optional || peer))) continue;
    if (found?.version !== version || !existsSync(inRoot(path))) return false;
  }
  return true;
}

function readPackages(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined;
}

function isBuilt() {
  if (!existsSync(stamp) || !existsSync(inRoot("dist", "index.js"))) return false;
  const newest = Math.max(newestIn(inRoot("src")), statSync(inRoot("tsconfig.json")).mtimeMs);
  return newest < statSync(stamp).mtimeMs;
}

/** The latest change in a folder; a removed file changes its folder's own time. */
function newestIn(folder) {
  let newest = statSync(folder).mtimeMs;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    newest = Math.max(newest, entry.isDirectory() ? newestIn(path) : statSync(path).mtimeMs);
  }
  return newest;
}

function build() {
  const compiler = inRoot("node_modules", "typescript", "bin", "tsc");
  if (!existsSync(inRoot("src", "index.ts"))) return; // a packed copy has dist/ and no sources
  if (!existsSync(compiler)) {
    if (preparing) return; // installed without its development tools
    fail("build: typescript is not installed; run npm ci");
  }
  const startedAt = new Date();
  rmSync(inRoot("dist"), { recursive: true, force: true });
  run(process.execPath, [compiler, "-p", inRoot("tsconfig.json")], "build");
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, "");
  utimesSync(stamp, startedAt, startedAt);
}

function run(command, args, step) {
  const viaShell = process.platform === "win32" && command === "npm";
  const { status, error } = spawnSync(command, args, { cwd: root, shell: viaShell, stdio: ["ignore", 2, 2] });
  if (status !== 0) fail(`${step}: ${command} ${args.join(" ")} failed${error ? `: ${error.message}` : ""}`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
