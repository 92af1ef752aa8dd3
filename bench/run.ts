// Measures kernels, recording and training steps on one device, and prints a table.
//
//     npm run bench                            everything; writes bench/results/<adapter>.json
//     npm run bench -- --filter matmul         cases whose names hold the text; writes nothing
//     npm run bench -- --seconds 3             samples of each case for so long (default 1)
//     npm run bench -- --list                  the names of all cases
//
// ADAMIX_DEVICE chooses the device. See bench/README.md for how to read the numbers.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { type Gpu, openGpu } from "../src/index.ts";
import { generationCases } from "./generation.ts";
import { kernelCases } from "./kernels.ts";
import { type Measurement, measure } from "./measure.ts";
import { stepCases } from "./steps.ts";

const { values } = parseArgs({
  options: {
    filter: { type: "string", default: "" },
    seconds: { type: "string", default: "1" },
    list: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
if (!(seconds > 0)) throw new RangeError(`bench: --seconds is ${values.seconds}, expected more than 0`);
const cases = [...kernelCases(), ...stepCases(), ...generationCases()].filter(({ name }) =>
  name.includes(values.filter),
);
if (cases.length === 0) throw new RangeError(`bench: no case holds "${values.filter}"; --list names them`);

if (values.list) console.log(cases.map(({ name }) => name).join("\n"));
else await main();

async function main(): Promise<void> {
  const gpu = await openGpu();
  const { traits, adapter } = gpu.device;
  console.log(`${traits.name} (${traits.kind}; ${adapter.how}), kernels for ${traits.kernels}`);
  const results: Measurement[] = [];
  for (const [i, item] of cases.entries()) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K[${i + 1}/${cases.length}] ${item.name}`);
    results.push(await measure(gpu, item, { seconds }));
  }
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  console.log(tableOf(results));
  if (values.filter === "") console.log(`written to ${write(gpu, results)}`);
  await gpu.device.close();
}

function tableOf(results: readonly Measurement[]): string {
  const table = new Table({
    head: ["case", "min", "median", "± median", "samples", "rate at median"],
    colAligns: ["left", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, minMs, medianMs, spread, samples, repeats, rate, unit } of results) {
    table.push([
      name,
      time(minMs),
      time(medianMs),
      `${(100 * spread).toFixed(1)}%`,
      `${samples} x ${repeats}`,
      `${rate >= 100 ? Math.round(rate).toLocaleString("en-US") : rate.toFixed(1)} ${unit}`,
    ]);
  }
  return table.toString();
}

function time(ms: number): string {
  return ms < 1 ? `${(1000 * ms).toFixed(1)} µs` : `${ms.toFixed(2)} ms`;
}

/** Writes results/<adapter>.json and gives its path. */
function write(gpu: Gpu, results: readonly Measurement[]): string {
  const { traits, adapter } = gpu.device;
  const folder = fileURLToPath(new URL("results/", import.meta.url));
  const variant = traits.kernels === traits.kind ? "" : `-${traits.kernels}-kernels`;
  const path = `${folder}${traits.name.replace(/[^a-z0-9]+/g, "-")}${variant}.json`;
  const record = {
    adapter: {
      name: traits.name,
      kind: traits.kind,
      driver: adapter.adapter.info.description,
      kernels: traits.kernels,
      subgroupSize: traits.subgroupSize,
    },
    machine: {
      cpu: cpus()[0]?.model ?? "unknown",
      cores: availableParallelism(),
      platform: process.platform,
    },
    node: process.versions.node,
    webgpu: JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).dependencies.webgpu,
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    seconds,
    results: results.map(rounded),
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, `${JSON.stringify(record, null, 2)}\n`);
  return path;
}

/** Four digits are more than these numbers are worth. */
function rounded(result: Measurement): Measurement {
  const digits = (x: number): number => Number(x.toPrecision(4));
  const { minMs, medianMs, spread, rate } = result;
  return {
    ...result,
    minMs: digits(minMs),
    medianMs: digits(medianMs),
    spread: digits(spread),
    rate: digits(rate),
  };
}

/** The commit, with "+" where files differ from it. */
function commit(): string {
  try {
    const git = (...words: string[]): string => execFileSync("git", words, { encoding: "utf8" }).trim();
    return `${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--untracked-files=no") ? "+" : ""}`;
  } catch {
    return "unknown";
  }
}
