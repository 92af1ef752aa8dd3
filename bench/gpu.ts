// One look at a GPU: what it is, whether the kernels it chooses are right, its own ceilings, kernels and whole steps as
// shares of them. Under eight minutes.
//
//     npm run bench:gpu                     everything; writes bench/results/gpu-<adapter>.json
//     npm run bench:gpu -- --small          the same at sizes that run on any adapter; writes nothing
//     npm run bench:gpu -- --only steps     one of checks, kernels, host, steps; writes nothing
//     npm run bench:gpu -- --seconds 1      samples of each case for so long (default 0.4)
//
// ADAMIX_DEVICE chooses the device. bench/peers/torch_gpu.py does the same work in PyTorch.
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { type Gpu, openGpu } from "../src/index.ts";
import { attentionChecks, checkAttention } from "./gpu/attention-checks.ts";
import { ceilingCases, gpuKernelCases, SIZES } from "./gpu/cases.ts";
import { type Check, checkProduct, productChecks } from "./gpu/checks.ts";
import { measureStep, type StepResult, stepCases } from "./gpu/steps.ts";
import { hostCases } from "./host.ts";
import { type Measurement, measure } from "./measure.ts";
import { circumstances, rounded, writeResults } from "./record.ts";

const PARTS = ["checks", "kernels", "host", "steps"] as const;
type Part = (typeof PARTS)[number];

const { values } = parseArgs({
  options: {
    small: { type: "boolean", default: false },
    only: { type: "string" },
    seconds: { type: "string", default: "0.4" },
  },
});
const seconds = Number(values.seconds);
if (!(seconds > 0)) throw new RangeError(`bench: --seconds is ${values.seconds}, expected more than 0`);
if (values.only !== undefined && !(PARTS as readonly string[]).includes(values.only))
  throw new RangeError(`bench: --only is "${values.only}", expected one of ${PARTS.join(", ")}`);
const does = (part: Part): boolean => values.only === undefined || values.only === part;
const sizes = SIZES[values.small ? "small" : "full"];

const gpu = await openGpu();
const adapter = describe(gpu);
const before = circumstances();
const started = performance.now();
console.log(JSON.stringify(adapter, null, 2));
const checks = does("checks") ? await check() : [];
let ceilings: Measurement[] = []; // timed first: the others are shares of them
ceilings = await timed(does("kernels") || does("steps") ? ceilingCases(sizes) : []);
const kernels = await timed(does("kernels") ? gpuKernelCases(sizes) : []);
const host = await timed(does("host") ? hostCases() : []);
const steps = does("steps") ? await stepsDone() : [];
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s in all`);
const wrong = checks.filter(({ error, limit }) => !(error <= limit));
if (!values.small && values.only === undefined) {
  const record = { adapter, ...before, seconds, checks, ceilings, kernels, host, steps };
  console.log(`written to ${writeResults(`gpu-${gpu.device.traits.name}`, record)}`);
}
await gpu.device.close();
if (wrong.length > 0) process.exitCode = 1;

function describe({ device }: Gpu): object {
  const { traits, adapter: found } = device;
  const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize } = found.adapter.info;
  const { subgroupMatrixConfigs = [] } = found.adapter.info as { subgroupMatrixConfigs?: Iterable<object> };
  const configs = [...subgroupMatrixConfigs].map((config) => {
    const { componentType, resultComponentType, M, N, K } = config as Record<string, unknown>;
    return `${componentType} -> ${resultComponentType} ${M}x${N}x${K}`;
  });
  return {
    name: traits.name,
    kind: traits.kind,
    vendor,
    architecture,
    driver: description,
    kernels: traits.kernels,
    subgroups: [subgroupMinSize, subgroupMaxSize],
    matrices: traits.matrices,
    subgroupMatrixConfigs: configs,
    ...device.describe(),
  };
}

async function check(): Promise<Check[]> {
  const results: Check[] = [];
  for (const product of productChecks()) results.push(await checkProduct(gpu, product));
  for (const sizes of attentionChecks()) results.push(...(await checkAttention(gpu, sizes)));
  print(
    ["against float64", "error", "allowed"],
    results.map(({ name, error, limit }) => [
      `${error <= limit ? "" : "WRONG "}${name}`,
      error.toExponential(1),
      limit.toExponential(0),
    ]),
  );
  return results;
}

async function timed(cases: ReturnType<typeof gpuKernelCases>): Promise<Measurement[]> {
  const results: Measurement[] = [];
  for (const item of cases) {
    const { name, minMs, medianMs, spread, samples, repeats, rate, unit } = await measure(gpu, item, {
      seconds,
    });
    results.push({
      name,
      minMs: rounded(minMs),
      medianMs: rounded(medianMs),
      spread: rounded(spread),
      samples,
      repeats,
      rate: rounded(rate),
      unit,
    });
  }
  if (results.length > 0)
    print(
      ["case", "median", "±", "rate", "of the ceiling"],
      results.map((result) => [
        result.name,
        `${(1000 * result.medianMs).toFixed(1)} µs`,
        `${(100 * result.spread).toFixed(1)}%`,
        `${result.rate.toLocaleString("en-US")} ${result.unit}`,
        shareOfCeiling(result),
      ]),
    );
  return results;
}

/** Of this adapter's own large copy, or its large product in f32. */
function shareOfCeiling({ name, rate, unit }: Measurement): string {
  // The ceilings themselves are timed first, and have none.
  const known = typeof ceilings === "undefined" ? [] : ceilings;
  const of = (start: string): number | undefined =>
    known.find((ceiling) => ceiling.name.startsWith(start))?.rate;
  const ceiling = unit === "GB/s" ? of("copy") : unit === "GFLOP/s" ? of("product") : undefined;
  return ceiling === undefined || name.startsWith("product") ? "" : `${((100 * rate) / ceiling).toFixed(0)}%`;
}

async function stepsDone(): Promise<StepResult[]> {
  const results: StepResult[] = [];
  for (const item of stepCases(values.small)) results.push(await measureStep(gpu, item, seconds));
  const product = ceilings.find(({ name }) => name.startsWith("product"))?.rate ?? Number.NaN;
  print(
    [
      "step",
      "median",
      "tokens/s",
      "peak MB",
      "dispatches",
      "µs each",
      "new",
      "idle",
      "wall / busy",
      "of the product",
    ],
    results.map((step) => [
      step.name,
      `${step.medianMs.toFixed(2)} ms`,
      Math.round(step.tokensPerSecond).toLocaleString("en-US"),
      (step.peakBytes / 1e6).toFixed(0),
      step.dispatches.toFixed(0),
      step.hostMicrosecondsPerDispatch.toFixed(1),
      step.created.toFixed(0),
      `${(100 * step.idleShare).toFixed(0)}%`,
      (step.medianMs / step.busyMs).toFixed(2),
      `${((100 * step.gigaflops * 1000) / step.medianMs / product).toFixed(0)}%`,
    ]),
  );
  return results;
}

function print(head: string[], rows: string[][]): void {
  const colAligns = head.map((_, i) => (i === 0 ? "left" : "right")) as ("left" | "right")[];
  const table = new Table({ head, colAligns, style: { head: [], border: [], compact: true } });
  for (const row of rows) table.push(row);
  console.log(table.toString());
}
