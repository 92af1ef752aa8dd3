import type { Gpu } from "../src/index.ts";
import { findRepeats, sample } from "./measure.ts";
import { median, medianInterval } from "./statistics.ts";

/** Something that is measured in turn with others. */
export interface Contender {
  readonly name: string;
  run(): void;
}

/** Milliseconds of one run, of one contender: the median of each round. */
export type Rounds = readonly number[];

export interface InterleaveOptions {
  readonly rounds: number;
  /** Of samples, of each contender in each round. At least one sample is taken. */
  readonly seconds: number;
  readonly onTurn?: (what: string) => void;
}

/**
 * Measures contenders in turn, round after round, another first in each, so that what else the machine does meets all
 * of them. They have been warmed up. Times are compared within a round: see `ratio`.
 */
export async function interleave(
  gpu: Gpu,
  contenders: readonly Contender[],
  { rounds, seconds, onTurn }: InterleaveOptions,
): Promise<Rounds[]> {
  const repeats: number[] = [];
  for (const { run } of contenders) repeats.push(await findRepeats(gpu, run));
  const times: number[][] = contenders.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const i = (turn + round) % contenders.length;
      const { name, run } = contenders[i] as Contender;
      onTurn?.(`${name}, round ${round + 1} of ${rounds}`);
      const samples: number[] = [];
      const until = performance.now() + 1000 * seconds;
      do samples.push((await sample(gpu, run, repeats[i] as number, "device")).overriddenDuration);
      while (performance.now() < until);
      times[i]?.push(median(samples));
    }
  }
  return times;
}

/** How many times as long one contender takes as another. */
export interface Ratio {
  /** The median over rounds. */
  readonly value: number;
  /** Holds it in 95 of 100 cases, from six rounds on. */
  readonly interval: readonly [low: number, high: number];
}

export function ratio(times: Rounds, others: Rounds): Ratio {
  const ratios = times.map((ms, round) => ms / (others[round] ?? Number.NaN));
  return { value: median(ratios), interval: medianInterval(ratios) };
}
