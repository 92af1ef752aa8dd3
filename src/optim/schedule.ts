import { knownOptions, type OptionNames } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";

/** The learning rate of each step, counted from 0. */
export type Schedule = (step: number) => number;

export interface WarmupOptions {
  /** The rate after the warm-up. */
  readonly lr: number;
  /** Steps in which the rate rises linearly from 0: step 0 has rate 0 where there are any. Default 0. */
  readonly warmupSteps?: number;
}

export interface DecayOptions extends WarmupOptions {
  /** Steps in all, those of the warm-up included. */
  readonly totalSteps: number;
}
const DECAY: OptionNames<DecayOptions> = { lr: true, warmupSteps: true, totalSteps: true };

/** The warm-up, then lr · `after`(share of the steps behind it that are left: 1 down to 0). */
function decaying(
  { lr, warmupSteps = 0, totalSteps }: DecayOptions,
  after: (left: number) => number,
): Schedule {
  if (!(warmupSteps >= 0 && warmupSteps <= totalSteps))
    throw new ShapeError(`schedule: ${warmupSteps} warm-up steps of ${totalSteps} steps in all`);
  return (step) => {
    if (step < warmupSteps) return (lr * step) / warmupSteps;
    const rest = totalSteps - warmupSteps;
    return rest === 0 ? lr : lr * after(Math.max(totalSteps - step, 0) / rest);
  };
}

/** The same rate in every step, after a warm-up. */
export function constantSchedule(lr: number, options: { warmupSteps?: number } = {}): Schedule {
  const { warmupSteps = 0 } = knownOptions("constantSchedule", options, { warmupSteps: true });
  if (!(warmupSteps >= 0)) throw new ShapeError(`schedule: ${warmupSteps} warm-up steps`);
  return (step) => (step < warmupSteps ? (lr * step) / warmupSteps : lr);
}

/** Falls linearly to 0 at `totalSteps`. */
export function linearSchedule(options: DecayOptions): Schedule {
  return decaying(knownOptions("linearSchedule", options, DECAY), (left) => left);
}

/**
 * Falls as a cosine to `end` · lr at `totalSteps`: ½ (1 + cos(2π cycles progress)). Default half a cycle, and to 0.
 * More cycles rise again.
 */
export function cosineSchedule(
  options: DecayOptions & { readonly cycles?: number; readonly end?: number },
): Schedule {
  const { cycles = 0.5, end = 0 } = knownOptions("cosineSchedule", options, {
    ...DECAY,
    cycles: true,
    end: true,
  });
  expectShare("end", end);
  return decaying(
    options,
    (left) => end + (1 - end) * 0.5 * (1 + Math.cos(2 * Math.PI * cycles * (1 - left))),
  );
}

/** Falls to `end` · lr at `totalSteps` as (1 - progress)^power. Defaults 0 and 1, which is the linear one. */
export function polynomialSchedule(
  options: DecayOptions & { readonly power?: number; readonly end?: number },
): Schedule {
  const { power = 1, end = 0 } = knownOptions("polynomialSchedule", options, {
    ...DECAY,
    power: true,
    end: true,
  });
  expectShare("end", end);
  if (!(power > 0)) throw new ShapeError(`schedule: power is ${power}, expected more than 0`);
  return decaying(options, (left) => end + (1 - end) * left ** power);
}

/**
 * lr / √(1 + (step - warmupSteps) / timescale) after the warm-up: a quarter of the rate needs sixteen times the steps.
 * `timescale` defaults to the warm-up's steps, to 10,000 where there are none.
 */
export function inverseSquareRootSchedule(
  options: WarmupOptions & { readonly timescale?: number },
): Schedule {
  const names = { lr: true, warmupSteps: true, timescale: true } as const;
  const { lr, warmupSteps = 0, ...rest } = knownOptions("inverseSquareRootSchedule", options, names);
  const { timescale = warmupSteps || 10_000 } = rest;
  if (!(timescale > 0)) throw new ShapeError(`schedule: timescale is ${timescale}, expected more than 0`);
  if (!(warmupSteps >= 0)) throw new ShapeError(`schedule: ${warmupSteps} warm-up steps`);
  return (step) =>
    step < warmupSteps ? (lr * step) / warmupSteps : lr / Math.sqrt(1 + (step - warmupSteps) / timescale);
}

function expectShare(name: string, value: number): void {
  if (!(value >= 0 && value <= 1)) throw new ShapeError(`schedule: ${name} is ${value}, expected 0..1`);
}
