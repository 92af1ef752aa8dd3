import { type Gpu, memory, type ProfileReport, profile, resetPeakMemory } from "../src/index.ts";
import { findRepeats, sample } from "./measure.ts";
import { median } from "./statistics.ts";

/** What a step that is replayed takes beside its time. */
export interface StepFigures {
  /** Most bytes alive at once, of the model, its training and its activations. */
  readonly peakBytes: number;
  readonly dispatches: number;
  readonly submits: number;
  /** Buffers, bind groups and pipelines that one more step makes. */
  readonly created: number;
  /** Of the program and the engine, batch and routes included; the driver's submits left out. */
  readonly hostMicrosecondsPerDispatch: number;
  /** 1 - busy / wall: the share of a step's time in which no kernel ran, by timestamps. NaN where the device has none. */
  readonly idleShare: number;
}

const SETTLED = 3;
const LOOKS = 3;

/** Prepares a step, runs it until nothing about it is new, and looks at it while nothing else runs. */
export async function measureFigures<T extends { run(): void }>(
  gpu: Gpu,
  prepare: () => T,
): Promise<{ readonly step: T; readonly figures: StepFigures }> {
  const before = heldBytes(gpu);
  resetPeakMemory(gpu);
  const step = prepare();
  for (let i = 0; i < SETTLED; i++) step.run();
  await gpu.device.recorder.throttle();
  const peakBytes = memory(gpu).peakBytes - before;
  const figures = { peakBytes, ...(await hostFigures(gpu, step)), idleShare: await idleShare(gpu, step) };
  return { step, figures };
}

interface Step {
  run(): void;
}

/** Of single steps, so that the device is idle while the host records. */
async function hostFigures(gpu: Gpu, { run }: Step): Promise<Omit<StepFigures, "peakBytes" | "idleShare">> {
  const madeBefore = createdSoFar(gpu);
  const looks: ProfileReport[] = [];
  for (let i = 0; i < LOOKS; i++) looks.push(await profile(gpu, run, { clock: "none" }));
  const of = (figure: (look: ProfileReport) => number): number => median(looks.map(figure));
  return {
    dispatches: of(({ dispatches }) => dispatches),
    submits: of(({ submits }) => submits),
    created: (createdSoFar(gpu) - madeBefore) / LOOKS,
    hostMicrosecondsPerDispatch: of(
      ({ hostMs, submitMs, dispatches }) => (1000 * (hostMs - submitMs)) / dispatches,
    ),
  };
}

/** Steps behind one another with a wait at their end, timed and then profiled, by turns. */
async function idleShare(gpu: Gpu, { run }: Step): Promise<number> {
  if (!gpu.device.watch.hasTimestamps) return Number.NaN;
  const repeats = await findRepeats(gpu, run);
  const repeat = (): void => {
    for (let i = 0; i < repeats; i++) run();
  };
  const shares: number[] = [];
  for (let i = 0; i < LOOKS; i++) {
    const { overriddenDuration: wallMs } = await sample(gpu, run, repeats, "device");
    const { busyMs } = await profile(gpu, repeat, { clock: "timestamps" });
    shares.push(1 - busyMs / repeats / wallMs);
  }
  return median(shares);
}

function heldBytes(gpu: Gpu): number {
  const { liveBytes, capturedBytes } = memory(gpu);
  return liveBytes + capturedBytes;
}

function createdSoFar({ device }: Gpu): number {
  const { created, bindGroups, kernels } = device.statistics();
  return created + bindGroups + kernels;
}
