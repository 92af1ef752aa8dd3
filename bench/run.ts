// Measures kernels, recording and training steps on one device, and prints a table.
//
//     npm run bench                            everything; writes bench/results/<adapter>.json
//     npm run bench -- --filter matmul         cases whose names hold the text; writes nothing
//     npm run bench -- --seconds 3             samples of each case for so long (default 1)
//     npm run bench -- --filter step --profile instead of a table the kernels of each case, by timestamps
//     npm run bench -- --list                  the names of all cases
//
// ADAMIX_DEVICE chooses the device. See bench/README.md for how to read the numbers.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { formatProfile, type Gpu, openGpu, profile } from "../src/index.ts";
import { generationCases } from "./generation.ts";
import { hostCases } from "./host.ts";
import { kernelCases } from "./kernels.ts";
import { type Measurement, measure } from "./measure.ts";
import { productCases } from "./products.ts";
import { circumstances, rounded, writeResults } from "./record.ts";
import { stepCases } from "./steps.ts";

const { values } = parseArgs({
  options: {
    filter: { type: "string", default: "" },
    seconds: { type: "string", default: "1" },
    list: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
  },
});
/** Runs of a case that is profiled. */
const PROFILED = 5;
const seconds = Number(values.seconds);
if (!(seconds > 0)) throw new RangeError(`bench: --seconds is ${values.seconds}, expected more than 0`);
const before = circumstances(); // the load of others, before ours
const all = [...productCases(), ...kernelCases(), ...hostCases(), ...stepCases(), ...generationCases()];
const cases = all.filter(({ name }) => name.includes(values.filter));
if (cases.length === 0) throw new RangeError(`bench: no case holds "${values.filter}"; --list names them`);

if (values.list) console.log(cases.map(({ name }) => name).join("\n"));
else if (values.profile) await profileCases();
else await main();

/** Two runs to warm up, and some that are looked at. */
async function profileCases(): Promise<void> {
  const gpu = await openGpu();
  const repeated = async (run: () => void, times: number): Promise<void> => {
    for (let i = 0; i < times; i++) run();
    await gpu.device.recorder.throttle();
  };
  for (const { name, setup } of cases) {
    const { run, dispose } = setup(gpu);
    await repeated(run, 2);
    console.log(
      `${name}, ${PROFILED} times\n${formatProfile(await profile(gpu, () => repeated(run, PROFILED)))}\n`,
    );
    dispose();
    gpu.device.trim();
  }
  await gpu.device.close();
}

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
  const variant = traits.kernels === traits.kind ? "" : `-${traits.kernels}-kernels`;
  return writeResults(`${traits.name}${variant}`, {
    adapter: {
      name: traits.name,
      kind: traits.kind,
      driver: adapter.adapter.info.description,
      kernels: traits.kernels,
      subgroupSize: traits.subgroupSize,
    },
    ...before,
    webgpu: JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).dependencies.webgpu,
    seconds,
    results: results.map((result) => ({
      ...result,
      minMs: rounded(result.minMs),
      medianMs: rounded(result.medianMs),
      spread: rounded(result.spread),
      rate: rounded(result.rate),
    })),
  });
}
