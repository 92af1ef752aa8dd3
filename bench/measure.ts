import { Bench } from "tinybench";
import type { Gpu } from "../src/index.ts";

/** Something to measure. Memory is taken in `setup` and given back in `dispose`, so that cases do not add up. */
export interface Case {
  readonly name: string;
  /** What one repetition amounts to, in units of 1e9 operations or bytes, or in plain units. */
  readonly amount: number;
  readonly unit: "GFLOP/s" | "GB/s" | "examples/s" | "tokens/s" | "dispatches/s";
  /** "device" (default): recorded, submitted and done. "host": recorded only, the device's work is waited for apart. */
  readonly clock?: "device" | "host";
  /** How many repetitions one `run` makes. Default 1. */
  readonly inside?: number;
  setup(gpu: Gpu): { run(): void; dispose(): void };
}

/** Milliseconds of one repetition. */
export interface Measurement {
  readonly name: string;
  readonly minMs: number;
  readonly medianMs: number;
  /** Median absolute deviation over median. */
  readonly spread: number;
  readonly samples: number;
  /** Repetitions recorded before each wait. */
  readonly repeats: number;
  /** At the median. */
  readonly rate: number;
  readonly unit: Case["unit"];
}

export interface MeasureOptions {
  /** Seconds of samples for each case. */
  readonly seconds: number;
}

/** A sample lasts about this long: far above the millisecond by which a polite wait may be late. */
const SAMPLE_MS = 30;
const MOST_REPEATS = 256;
const FEWEST_SAMPLES = 8;

/**
 * Measures one case: warms up (kernels compile, the pool fills), finds how often to repeat it between two waits,
 * then samples. The number of repetitions stays fixed.
 */
export async function measure(gpu: Gpu, item: Case, { seconds }: MeasureOptions): Promise<Measurement> {
  const { run, dispose } = item.setup(gpu);
  const { inside = 1 } = item;
  try {
    const repeats = item.clock === "host" ? 1 : await findRepeats(gpu, run);
    const bench = new Bench({
      time: seconds * 1000,
      iterations: FEWEST_SAMPLES,
      warmupTime: 0,
      warmupIterations: 2,
      throws: true,
    });
    bench.add(item.name, async () => {
      const { overriddenDuration, ...rest } = await sample(gpu, run, repeats, item.clock ?? "device");
      return { overriddenDuration: overriddenDuration / inside, ...rest };
    });
    const [task] = await bench.run();
    if (!task || !("latency" in task.result)) throw new Error(`bench: ${item.name} gave no result`);
    const { min, p50, mad, samplesCount } = task.result.latency;
    return {
      name: item.name,
      minMs: min,
      medianMs: p50,
      spread: mad / p50,
      samples: samplesCount,
      repeats: repeats * inside,
      rate: item.amount / (p50 / 1000),
      unit: item.unit,
    };
  } finally {
    dispose();
    gpu.device.trim();
  }
}

/** Milliseconds of one repetition, over `repeats` of them with one wait at the end. */
export async function sample(
  gpu: Gpu,
  run: () => void,
  repeats: number,
  clock: "device" | "host",
): Promise<{ overriddenDuration: number; overriddenIterationCost: number }> {
  const { recorder } = gpu.device;
  const started = performance.now();
  for (let i = 0; i < repeats; i++) run();
  const recorded = performance.now();
  await recorder.throttle();
  const done = performance.now();
  const measuredMs = (clock === "host" ? recorded : done) - started;
  return { overriddenDuration: measuredMs / repeats, overriddenIterationCost: done - started };
}

/** How often to repeat a run between two waits, so that a sample is long enough. Warms up. */
export async function findRepeats(gpu: Gpu, run: () => void): Promise<number> {
  await sample(gpu, run, 1, "device");
  let fastestMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const { overriddenDuration } = await sample(gpu, run, 1, "device");
    fastestMs = Math.min(fastestMs, overriddenDuration);
  }
  return Math.max(1, Math.min(MOST_REPEATS, Math.ceil(SAMPLE_MS / fastestMs)));
}
