import type { Gpu } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";

/** One of several ways to do the same thing. */
export interface Contender<Name extends string = string> {
  readonly name: Name;
  run(): void;
}

/** Milliseconds that `run` takes until the device has done it. `name`: of the contender. */
export type Stopwatch = (run: () => void, name: string) => Promise<number>;

export interface RaceOptions {
  /** Each contender is timed once in each round, another first every time; what counts are medians. Default 5. */
  readonly rounds?: number;
  /** The first contender stays unless another one takes so much less of its time. Default 0.05: 5%. */
  readonly margin?: number;
  /** Default: the host's clock around enough repetitions, until the device is done. */
  readonly stopwatch?: Stopwatch;
}

export interface Finish<Name extends string = string> {
  readonly winner: Name;
  /** Medians, in four digits. Who took twice the time of another in every round so far was not timed again. */
  readonly ms: Readonly<Partial<Record<Name, number>>>;
}

/** Times contenders in turn and says who wins. Each is run once before: kernels compile. */
export async function race<Name extends string>(
  gpu: Gpu,
  contenders: readonly Contender<Name>[],
  { rounds = 5, margin = 0.05, stopwatch = hostStopwatch(gpu) }: RaceOptions = {},
): Promise<Finish<Name>> {
  const lanes = contenders.map(({ name, run }) => ({ name, run, times: [] as number[] }));
  const [favourite] = lanes;
  if (!favourite) throw new ShapeError("race: no contenders");
  for (const { run } of lanes) run();
  await gpu.device.recorder.throttle();
  for (let round = 0; round < rounds; round++) {
    const fastest = Math.min(...lanes.flatMap(({ times }) => times));
    for (let turn = 0; turn < lanes.length; turn++) {
      const lane = lanes[(turn + round) % lanes.length] as (typeof lanes)[number];
      const isBeaten = lane.times.length >= ENOUGH && Math.min(...lane.times) > HOPELESS * fastest;
      if (isBeaten && lane !== favourite) continue;
      lane.times.push(await stopwatch(lane.run, lane.name));
    }
  }
  const medians = lanes.map(({ name, times }) => ({ name, ms: median(times) }));
  const best = medians.reduce((a, b) => (b.ms < a.ms ? b : a));
  const isFaster = best.ms < (1 - margin) * median(favourite.times);
  const ms = Object.fromEntries(medians.map((one) => [one.name, Number(one.ms.toPrecision(4))]));
  return { winner: isFaster ? best.name : favourite.name, ms: ms as Finish<Name>["ms"] };
}

/** Twice the time of another, in more than one round: no noise is like that. */
const HOPELESS = 2;
const ENOUGH = 2;

/** Throws where options of a race make no sense. */
export function checkRace(what: string, { rounds = 5, margin = 0.05 }: RaceOptions): void {
  if (!(Number.isInteger(rounds) && rounds > 0))
    throw new ShapeError(`${what}: rounds is ${rounds}, expected 1 or more`);
  if (!(margin >= 0 && margin < 1))
    throw new ShapeError(`${what}: margin is ${margin}, expected a share from 0 to below 1`);
}

/** The middle of the values, NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** What is shorter drowns in the wait for the device. */
const LONG_MS = 10;
const MOST_REPEATS = 100;

function hostStopwatch(gpu: Gpu): Stopwatch {
  const sample = async (run: () => void, repeats: number): Promise<number> => {
    const started = performance.now();
    for (let i = 0; i < repeats; i++) run();
    await gpu.device.recorder.throttle();
    return performance.now() - started;
  };
  return async (run) => {
    const once = await sample(run, 1);
    if (once >= LONG_MS) return once;
    const repeats = Math.min(MOST_REPEATS, Math.ceil(LONG_MS / once));
    return (await sample(run, repeats)) / repeats;
  };
}
