/**
 * Runs the test files one after another; up to a dozen in this process, so that they share a GPU device, more of them
 * in processes of a dozen each: Linux gives a process 65,530 mappings of memory, and Mesa's software driver takes one
 * for each buffer and each bind group. The long ones have a process each.
 *
 *     node --import tsx test/run.ts [part of a file name ...]
 *     node --import tsx test/run.ts --full [--count GRAPHS] [--seconds S] [part of a file name ...]
 *
 * A file registers uvu suites; a file that fails to load, registers no test, or leaves an error behind that
 * nobody awaited counts as a failure. `--full` adds the long ones, test/full. Under `node --expose-gc` a garbage
 * collection follows each test: nothing may live only by luck. The last line is `N passed, N failed`, and
 * `, N skipped` if any.
 */
import { fork } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { adaptersUsed } from "../src/platform/index.ts";
import { adapterName, pipelines } from "./device.ts";
import { options } from "./options.ts";
import { summary } from "./summary.ts";

/** What uvu's runner of a suite returns: messages (or true), passed, skipped, total. */
type Runner = () => Promise<[errors: string | true, passed: number, skipped: number, total: number]>;

interface UvuGlobals {
  UVU_DEFER?: number;
  UVU_INDEX?: number;
  UVU_QUEUE?: (string | null | Runner)[][];
}

const LONGEST_FILE_MS = 10 * 60_000;
const LONGEST_FULL_FILE_MS = 6 * 60 * 60_000;
/** Kernels that one file may compile. Shapes do not compile: only ops do, and their variants. */
const MOST_PIPELINES = 600;
/** Test files of one process. */
const MOST_FILES = 12;

const folder = fileURLToPath(new URL(".", import.meta.url));
const uvu = globalThis as UvuGlobals; // uvu keeps its queue on globalThis
const sum = { passed: 0, failed: 0, skipped: 0 };
const stray: string[] = [];
const startedAt = performance.now();
let finished = false;

process.on("uncaughtException", (error) => stray.push(describe(error)));
process.on("unhandledRejection", (error) => stray.push(describe(error)));
process.on("exit", () => {
  if (finished) return;
  console.log("the run stopped before its end: a test waits for something that never comes, or exits");
  sum.failed++;
  printSum();
  process.exitCode = 1;
});

uvu.UVU_DEFER = 1;
uvu.UVU_QUEUE = [];

const files = options.files ?? testFiles(options.filters);
if (options.files === undefined && parts(files).length > 1) await runInParts();
else {
  for (const file of files) await runFile(file);
  if (files.length === 0) {
    console.log(`no test file matches ${options.filters.join(" ")}`);
    sum.failed++;
  }
  finish();
}

/** The files of each process: up to a dozen; a long one has its own, whose memory it may measure. */
function parts(names: readonly string[]): string[][] {
  const all: string[][] = [];
  for (const name of names) {
    const last = all.at(-1);
    const isLong = name.endsWith(".full.ts");
    if (!last || isLong || last.length === MOST_FILES || last[0]?.endsWith(".full.ts")) all.push([name]);
    else last.push(name);
  }
  return all;
}

/** Runs the files in processes of their own, and adds up what they send. */
async function runInParts(): Promise<void> {
  for (const part of parts(files)) {
    const counts = await runPart(part);
    sum.passed += counts.passed;
    sum.failed += counts.failed;
    sum.skipped += counts.skipped;
  }
  finished = true;
  console.log(`${files.length} files in all, ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  printSum();
  process.exitCode = sum.failed > 0 ? 1 : 0;
}

function runPart(part: readonly string[]): Promise<typeof sum> {
  const args = [...process.argv.slice(2), "--files", part.join(",")];
  const child = fork(fileURLToPath(import.meta.url), args, { execArgv: process.execArgv });
  return new Promise((resolve) => {
    let counts: typeof sum | null = null;
    child.on("message", (message) => {
      counts = message as typeof sum; // what finish() sends
    });
    child.on("exit", (code, signal) => {
      const crashed = counts === null || (code !== 0 && counts.failed === 0);
      if (crashed)
        console.log(`  FAIL ${part[0]} to ${part.at(-1)}: ended by ${signal ?? `exit code ${code}`}`);
      const { passed, failed, skipped } = counts ?? { passed: 0, failed: 0, skipped: 0 };
      resolve({ passed, failed: failed + (crashed ? 1 : 0), skipped });
    });
  });
}

function testFiles(filters: readonly string[]): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => name.endsWith(".test.ts") || (options.full && name.endsWith(".full.ts")))
    .sort();
  return filters.length === 0 ? names : names.filter((name) => filters.some((part) => name.includes(part)));
}

async function runFile(name: string): Promise<void> {
  const start = performance.now();
  const longestMs = name.endsWith(".full.ts") ? LONGEST_FULL_FILE_MS : LONGEST_FILE_MS;
  const watchdog = setTimeout(() => stop(`${name}: no end after ${longestMs / 60_000} minutes`), longestMs);
  const pipelinesBefore = pipelines();
  watchdog.unref(); // an event loop with nothing left ends the run at once
  const counts = { passed: 0, failed: 0, skipped: 0, total: 0 };
  const problems: string[] = [];
  try {
    for (const suite of await loadSuites(name)) await runSuite(suite, counts, problems);
    if (counts.total + counts.skipped === 0) problems.push("registers no test (is test.run() missing?)");
  } catch (error) {
    problems.push(`does not load: ${describe(error)}`);
  }
  await new Promise((resolve) => setImmediate(resolve)); // lets a rejection nobody awaits be reported
  for (const error of stray.splice(0)) problems.push(`an error nobody awaited: ${error}`);
  if (process.exitCode)
    problems.push(
      "the exit code was set: an uncaptured GPU error, unless a test sets it and does not set it back",
    );
  process.exitCode = 0;
  clearTimeout(watchdog);
  const compiled = pipelines() - pipelinesBefore;
  if (compiled > MOST_PIPELINES) problems.push(`${compiled} kernels compiled, allowed are ${MOST_PIPELINES}`);
  report(name, { ...counts, compiled }, problems, performance.now() - start);
}

async function loadSuites(name: string): Promise<readonly Runner[]> {
  const queue: Runner[] = [];
  uvu.UVU_QUEUE = [queue];
  uvu.UVU_INDEX = 0;
  await import(pathToFileURL(join(folder, name)).href);
  return queue;
}

async function runSuite(
  suite: Runner,
  counts: { passed: number; failed: number; skipped: number; total: number },
  problems: string[],
): Promise<void> {
  const write = process.stdout.write;
  const filtered = (...args: Parameters<typeof write>) => {
    if (!isMark(String(args[0]))) return write.apply(process.stdout, args);
    globalThis.gc?.();
    return true;
  };
  process.stdout.write = filtered as typeof write; // write is overloaded, which a function value cannot be
  try {
    const [errors, passed, skipped, total] = await suite();
    counts.passed += passed;
    counts.failed += total - passed;
    counts.skipped += skipped;
    counts.total += total;
    if (errors !== true) write.call(process.stdout, errors);
    else if (passed < total) problems.push("a hook of a suite threw; the tests after it did not run");
  } finally {
    process.stdout.write = write;
  }
}

/** The suites' names, dots and sums that uvu prints, which say nothing here; what a test prints passes. */
function isMark(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: uvu colours its marks with escape codes
  const plain = text.replace(/\u001b\[\d+m/g, "");
  return plain === "• " || plain === "✘ " || /^ .+ {2}$/.test(plain) || /^ {2}\(\d+ \/ \d+\)\n$/.test(plain);
}

function report(
  name: string,
  counts: Readonly<Record<"passed" | "failed" | "skipped" | "compiled", number>>,
  problems: readonly string[],
  elapsedMs: number,
): void {
  for (const problem of problems) console.log(`  FAIL ${name} ${problem}`);
  const failed = counts.failed + problems.length;
  sum.passed += counts.passed;
  sum.failed += failed;
  sum.skipped += counts.skipped;
  const parts = [`${counts.passed} passed`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (counts.skipped > 0) parts.push(`${counts.skipped} skipped`);
  if (counts.compiled > 0) parts.push(`${counts.compiled} pipelines`);
  const mark = failed > 0 ? "✘" : "✓";
  console.log(
    `${mark} ${name.replace(/(\.test)?\.ts$/, "").padEnd(28)} ${parts.join(", ")}, ${elapsedMs.toFixed(0)} ms`,
  );
}

function finish(): void {
  finished = true;
  const adapters = adaptersUsed().map(({ name, kind, how }) => `${name} (${kind}; ${how})`);
  console.log(`adapter: ${adapters.length > 0 ? adapters.join(", ") : "none used"}`);
  const { rows, classes, compared, graphs } = summary;
  if (rows > 0)
    console.log(
      `ops: ${rows} rows x ${(classes / rows).toFixed(1)} shape classes x 1 adapter (${adapterName()}): ` +
        `${compared} cases compared with float64`,
    );
  if (graphs > 0) console.log(`random graphs: ${graphs} compared with float64, values and all gradients`);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(`${files.length} files, ${pipelines()} pipelines, ${seconds} s`);
  if (process.send) process.send(sum, leave);
  else {
    printSum();
    process.stdout.write("", leave);
  }
}

/** A device may keep the event loop alive. */
function leave(): void {
  process.exitCode = sum.failed > 0 ? 1 : 0;
  process.exit();
}

function stop(reason: string): void {
  console.log(reason);
  sum.failed++;
  finish();
}

function printSum(): void {
  const skips = sum.skipped > 0 ? `, ${sum.skipped} skipped` : "";
  console.log(`${sum.passed} passed, ${sum.failed} failed${skips}`);
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
