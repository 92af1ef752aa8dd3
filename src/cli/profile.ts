import type { Gpu } from "../array/index.ts";
import { formatProfile, type ProfileReport, Profiler } from "../gpu/index.ts";
import { fineTune } from "../train/index.ts";
import { type Override, readConfig } from "./config-file.ts";
import { resolveConfig } from "./presets.ts";
import { print, table } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { buildModel, optionsOf, type Prepared, prepare } from "./train-setup.ts";

export interface ProfileCommand {
  readonly file: string | undefined;
  readonly overrides: readonly Override[];
  /** Steps that are profiled: so many without a clock, then so many with one. */
  readonly steps: number;
  /** Steps before them. */
  readonly warmup: number;
  readonly device: string | undefined;
}

/** The steps of one training, seen twice. */
interface Reports {
  /** Counted only, as the steps run in training: host and wall time. */
  readonly plain: ProfileReport;
  /** With every kernel timed. */
  readonly timed: ProfileReport;
}

/** Trains a few steps by a config and prints where their time goes. */
export async function profileTraining(command: ProfileCommand): Promise<void> {
  const { file, overrides, steps, warmup, device } = command;
  const config = resolveConfig(readConfig(file, overrides));
  const prepared = await prepare(config);
  await withGpu(device, async (gpu) => {
    print(`adamix profile: ${config.method} on ${config.task}, on ${describeDevice(gpu)}`);
    print(`${warmup} steps of ${config.training.batchSize} to warm up, ${steps} as they are, ${steps} timed`);
    const { plain, timed } = await profiled(gpu, prepared, steps, warmup);
    print();
    print(formatProfile(timed));
    print();
    print(totals({ plain, timed }, steps));
  });
}

async function profiled(gpu: Gpu, prepared: Prepared, steps: number, warmup: number): Promise<Reports> {
  const { model, set } = await buildModel(gpu, prepared);
  let profiler: Profiler | null = null;
  const reports: ProfileReport[] = [];
  const beforeStep = async (step: number): Promise<void> => {
    const sinceWarm = step - warmup;
    if (sinceWarm < 0 || sinceWarm % steps !== 0) return;
    if (profiler) reports.push(await profiler.stop());
    profiler = sinceWarm < 2 * steps ? await Profiler.start(gpu.device, clocks(sinceWarm)) : null;
  };
  const clocks = (sinceWarm: number): { clock?: "none" } => (sinceWarm === 0 ? { clock: "none" } : {});
  // One step more, before which the last profile ends.
  await fineTune(gpu, model, set, { ...optionsOf(prepared), steps: warmup + 2 * steps + 1, beforeStep });
  const [plain, timed] = reports;
  if (!plain || !timed) throw new Error(`profile: ${reports.length} of 2 profiles came to their end`);
  return { plain, timed };
}

/** What one step takes. */
function totals({ plain, timed }: Reports, steps: number): string {
  const ms = (total: number): string => `${(total / steps).toFixed(2)} ms`;
  return table(
    ["a step", ""],
    [
      ["time", ms(plain.wallMs)],
      ["host", ms(plain.hostMs)],
      ["  of it submits", ms(plain.submitMs)],
      ["device", ms(timed.busyMs)],
      ["dispatches", (plain.dispatches / steps).toFixed(1)],
      ["host per dispatch", `${plain.hostMicrosecondsPerDispatch.toFixed(1)} µs`],
      ["time while timed", ms(timed.wallMs)],
    ],
  );
}
