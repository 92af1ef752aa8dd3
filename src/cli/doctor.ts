import type { Gpu } from "../array/index.ts";
import { type Check, runChecks, timeMatmul } from "./doctor-checks.ts";
import { describeFailure } from "./failure.ts";
import { grouped, print, table } from "./report.ts";
import { versions, withGpu } from "./session.ts";

export interface DoctorCommand {
  readonly json: boolean;
  readonly device: string | undefined;
}

interface Finding {
  readonly passed: boolean;
  readonly versions: ReturnType<typeof versions>;
  readonly system: string;
  readonly adapter: {
    readonly name: string;
    readonly kind: string;
    readonly how: string;
    readonly kernels: string;
    readonly subgroupSize: number;
    readonly features: readonly string[];
    readonly limits: Readonly<Record<string, number>>;
  };
  readonly checks: readonly Check[];
  readonly matmul512: { readonly ms: number; readonly gflops: number };
}

/** Says what adapter there is, and whether kernels on it agree with float64. Sets the exit code. */
export async function doctor({ json, device }: DoctorCommand): Promise<void> {
  let found: Finding;
  try {
    found = await withGpu(device, examine);
  } catch (error) {
    process.exitCode = 1;
    tellAbsence(error, json);
    return;
  }
  if (!found.passed) process.exitCode = 1;
  print(json ? JSON.stringify(found, null, 2) : report(found));
}

async function examine(gpu: Gpu): Promise<Finding> {
  const { traits, adapter } = gpu.device;
  const checks = await runChecks(gpu);
  return {
    passed: checks.every(({ passed }) => passed),
    versions: versions(),
    system: system(),
    adapter: {
      name: traits.name,
      kind: traits.kind,
      how: adapter.how,
      kernels: traits.kernels,
      subgroupSize: traits.subgroupSize,
      ...gpu.device.describe(),
    },
    checks,
    matmul512: await timeMatmul(gpu),
  };
}

/** What there is instead of a finding: why no adapter opened, and what to install on this system. */
function tellAbsence(error: unknown, json: boolean): void {
  const message = error instanceof Error ? error.message : String(error);
  const [reason = "", ...install] = message.split("\n").map((line) => line.trimEnd().replace(/^ {2}/, ""));
  if (json) {
    print(
      JSON.stringify({ passed: false, versions: versions(), system: system(), reason, install }, null, 2),
    );
  } else {
    print(`adamix ${versions().adamix} on ${system()}`);
    if (install.length > 0) print("what to install or to set so that one is found:");
    for (const line of install) print(`  ${line}`);
  }
  console.error(describeFailure(new Error(reason, { cause: error })));
}

function report({
  versions: { adamix, webgpu },
  adapter,
  checks,
  matmul512,
  passed,
  ...rest
}: Finding): string {
  const subgroups = adapter.subgroupSize > 0 ? `${adapter.subgroupSize} lanes` : "of no fixed size";
  const facts = [
    ["adapter", `${adapter.name} (${adapter.kind})`],
    ["found as", adapter.how],
    [
      "kernels",
      `for ${adapter.kernels === "software" ? "software adapters" : "GPUs"}; subgroups ${subgroups}`,
    ],
    ["features", adapter.features.join(", ") || "none"],
    ...Object.entries(adapter.limits).map(([name, value]) => [name, grouped(value)]),
  ];
  const rows = checks.map((check) => [
    check.name,
    check.passed ? "passed" : "FAILED",
    check.error === 0 ? "0" : check.error.toExponential(1),
    check.limit === 0 ? "0" : check.limit.toExponential(0),
    `${check.elapsedMs.toFixed(1)} ms`,
  ]);
  const nFailed = checks.filter((check) => !check.passed).length;
  return [
    `adamix ${adamix} on ${rest.system}, webgpu ${webgpu}`,
    "",
    ...facts.map(([name = "", value]) => `${name.padEnd(34)}${value}`),
    "",
    table(["kernel against float64", "", "error", "allowed", "with compilation"], rows),
    "",
    `matmul 512 x 512 x 512: ${matmul512.ms.toFixed(2)} ms, ${matmul512.gflops.toFixed(1)} GFLOP/s`,
    passed ? `all ${checks.length} checks passed` : `${nFailed} of ${checks.length} checks failed`,
  ].join("\n");
}

function system(): string {
  return `Node ${process.versions.node}, ${process.platform} ${process.arch}`;
}
