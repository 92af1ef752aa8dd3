import type { Device } from "./device.ts";
import { boundArrays, type DispatchRecord, type DispatchTime } from "./dispatch-record.ts";
import { GpuError } from "./errors.ts";
import type { Kernel, KernelSpec } from "./kernel.ts";
import type { Clock, Onlooker } from "./watch.ts";

export interface ProfileOptions {
  /**
   * By what kernels are timed. "timestamps": queries around each dispatch. "host": the host's clock around one
   * dispatch at a time, round trip included. "none": kernels are counted only, and nothing of how they run changes,
   * which gives the truest host and wall times. Default: timestamps where the device has them, else host.
   */
  readonly clock?: Clock | "none";
}

/** All dispatches of one kernel. */
export interface KernelProfile {
  /** Shader and entry point, with what is specialised where several kernels share them. */
  readonly kernel: string;
  readonly count: number;
  /** NaN without a clock, as are the figures that follow from it. */
  readonly totalMs: number;
  readonly meanMs: number;
  /** Of the time of all kernels, 0 to 1. */
  readonly share: number;
  /** Of all arrays that are bound, each once and whole: more than is moved where a kernel reads a part, less where it reads twice. */
  readonly bytes: number;
  readonly gigabytesPerSecond: number;
  /** 0 where the op does not say. */
  readonly flops: number;
  readonly gigaflopsPerSecond: number;
}

/** What `profile` found. Times are in milliseconds. */
export interface ProfileReport {
  readonly device: string;
  readonly clock: Clock | "none";
  /** By total time, longest first; without a clock by count. */
  readonly kernels: readonly KernelProfile[];
  readonly dispatches: number;
  readonly submits: number;
  /** From the call to the end of all work on the device. */
  readonly wallMs: number;
  /** In which the program and the engine prepared dispatches, waits for the device left out. */
  readonly hostMs: number;
  /** The part of `hostMs` in which finished command buffers were handed to the driver. */
  readonly submitMs: number;
  /** `hostMs` over dispatches. */
  readonly hostMicrosecondsPerDispatch: number;
  /** In which at least one kernel ran. NaN without a clock, as are the next three. */
  readonly busyMs: number;
  /** Between the first kernel's start and the last one's end, without `busyMs`: copies, and nothing to do. */
  readonly idleMs: number;
  /** The part of `idleMs` between submits: the device waited for the host. */
  readonly idleBetweenSubmitsMs: number;
  readonly longestGapMs: number;
  /** What the clock "host" adds to every time: an empty submit and its wait. 0 with timestamps. */
  readonly roundTripMs: number;
}

/**
 * Runs `fn` and reports what the device did meanwhile, kernel by kernel. What was recorded before is waited for
 * first; what `fn` records is waited for at the end. Print it with `formatProfile`.
 *
 * With a clock each dispatch has a compute pass of its own, which costs host time; the host's times are truest
 * with the clock "none". A first run measures compilation too: warm up. On a software adapter a kernel's time
 * depends on what else the processor does.
 *
 *     console.log(formatProfile(await profile(gpu, () => step())));
 */
export async function profile(
  { device }: { readonly device: Device },
  fn: () => unknown,
  options: ProfileOptions = {},
): Promise<ProfileReport> {
  const profiler = await Profiler.start(device, options);
  try {
    await fn();
  } catch (error) {
    await profiler.stop().catch(() => {}); // what went wrong first is what is told
    throw error;
  }
  return profiler.stop();
}

interface Tally {
  readonly kernel: Kernel;
  count: number;
  ms: number;
  bytes: number;
  flops: number;
}

/** A profile in progress: for what is no single function. */
export class Profiler implements Onlooker {
  readonly clock: Clock | undefined;
  readonly #device: Device;
  readonly #tallies = new Map<number, Tally>();
  #submitsBefore = 0;
  #dispatches = 0;
  #startedMs = 0;
  #hostMs = 0;
  #submitMs = 0;
  /** A stretch of host time: since the start, or since the last wait. */
  #stretchStartedMs = 0;
  #lastActMs = 0;
  #busyMs = 0;
  #idleMs = 0;
  #idleBetweenSubmitsMs = 0;
  #longestGapMs = 0;
  #busyUntilMs = Number.NaN;
  #roundTripMs = 0;

  private constructor(device: Device, clock: Clock | undefined) {
    this.#device = device;
    this.clock = clock;
  }

  /** Waits for what was recorded before, and begins. One at a time on a device. */
  static async start(device: Device, { clock }: ProfileOptions = {}): Promise<Profiler> {
    const { recorder, watch } = device;
    await recorder.throttle();
    if (watch.onlookers.some((onlooker) => onlooker instanceof Profiler))
      throw new GpuError("profile: this device is being profiled already; wait for that profile first");
    const wanted = clock ?? (watch.hasTimestamps ? "timestamps" : "host");
    const profiler = new Profiler(device, wanted === "none" ? undefined : wanted);
    await watch.add(profiler);
    profiler.#submitsBefore = recorder.statistics().submits;
    profiler.#startedMs = performance.now();
    profiler.#stretchStartedMs = profiler.#lastActMs = profiler.#startedMs;
    return profiler;
  }

  /** Ends at once; resolves when the device has done everything, with what was found. */
  async stop(): Promise<ProfileReport> {
    const { recorder, watch } = this.#device;
    const removed = watch.remove(this); // submits what is recorded
    this.#hostMs += this.#lastActMs - this.#stretchStartedMs;
    const submits = recorder.statistics().submits - this.#submitsBefore;
    await removed;
    await recorder.throttle();
    return this.#report(submits, performance.now() - this.#startedMs);
  }

  onRecorded(record: DispatchRecord): void {
    const tally = this.#tallyOf(record.kernel);
    tally.count++;
    for (const { binding } of boundArrays(record)) tally.bytes += binding.bytes;
    tally.flops += record.work?.flops ?? 0;
    this.#dispatches++;
    this.#lastActMs = performance.now();
  }

  onTimed({ kernel }: DispatchRecord, { startedMs, endedMs, isFirst, roundTripMs }: DispatchTime): void {
    this.#tallyOf(kernel).ms += endedMs - startedMs;
    this.#roundTripMs = roundTripMs;
    const gapMs = Math.max(0, startedMs - this.#busyUntilMs) || 0; // NaN before the first
    this.#idleMs += gapMs;
    if (isFirst) this.#idleBetweenSubmitsMs += gapMs;
    this.#longestGapMs = Math.max(this.#longestGapMs, gapMs);
    // Kernels that depend on nothing of each other may overlap.
    const newMs = Number.isNaN(this.#busyUntilMs) ? startedMs : Math.max(startedMs, this.#busyUntilMs);
    this.#busyMs += Math.max(0, endedMs - newMs);
    this.#busyUntilMs = Math.max(endedMs, newMs);
  }

  onSubmitted(ms: number): void {
    this.#submitMs += ms;
    this.#lastActMs = performance.now();
  }

  onWaited(): void {
    this.#hostMs += this.#lastActMs - this.#stretchStartedMs;
    this.#stretchStartedMs = this.#lastActMs = performance.now();
  }

  #tallyOf(kernel: Kernel): Tally {
    let tally = this.#tallies.get(kernel.id);
    if (!tally) {
      tally = { kernel, count: 0, ms: 0, bytes: 0, flops: 0 };
      this.#tallies.set(kernel.id, tally);
    }
    return tally;
  }

  #report(submits: number, wallMs: number): ProfileReport {
    const timed = (ms: number): number => (this.clock ? ms : Number.NaN);
    return {
      device: this.#device.traits.name,
      clock: this.clock ?? "none",
      kernels: kernelsOf([...this.#tallies.values()], timed),
      dispatches: this.#dispatches,
      submits,
      wallMs,
      hostMs: this.#hostMs,
      submitMs: this.#submitMs,
      hostMicrosecondsPerDispatch: (1000 * this.#hostMs) / this.#dispatches,
      busyMs: timed(this.#busyMs),
      idleMs: timed(this.#idleMs),
      idleBetweenSubmitsMs: timed(this.#idleBetweenSubmitsMs),
      longestGapMs: timed(this.#longestGapMs),
      roundTripMs: this.#roundTripMs,
    };
  }
}

function kernelsOf(tallies: readonly Tally[], timed: (ms: number) => number): KernelProfile[] {
  const names = namesOf(tallies.map(({ kernel }) => kernel));
  const sumMs = tallies.reduce((sum, { ms }) => sum + ms, 0);
  return [...tallies]
    .sort((a, b) => b.ms - a.ms || b.count - a.count)
    .map(({ kernel, count, ms, bytes, flops }) => ({
      kernel: names.get(kernel) as string, // every kernel has been named
      count,
      totalMs: timed(ms),
      meanMs: timed(ms / count),
      share: timed(ms / sumMs),
      bytes,
      gigabytesPerSecond: timed(bytes / ms / 1e6),
      flops,
      gigaflopsPerSecond: timed(flops / ms / 1e6),
    }));
}

/** Labels; with what is specialised where several kernels have one label. */
function namesOf(kernels: readonly Kernel[]): Map<Kernel, string> {
  const names = new Map<Kernel, string>();
  for (const kernel of kernels) {
    const isShared = kernels.some((other) => other !== kernel && other.label === kernel.label);
    names.set(kernel, isShared ? `${kernel.label}${variantOf(kernel.spec)}` : kernel.label);
  }
  return names;
}

/** " LANES=8u vec4=scalar": constants, and libraries that take the place of others. */
function variantOf({ constants = {}, uses = {} }: KernelSpec): string {
  const bare = (name: string): string => name.replace(/^lib\//, "");
  return [
    ...Object.entries(constants).map(([name, value]) => ` ${name}=${value}`),
    ...Object.entries(uses).map(([name, other]) => ` ${bare(name)}=${bare(other)}`),
  ].join("");
}
