import { median, medianInterval, spread } from "../statistics.ts";
import { PeerError, PeerProcess } from "./peer-process.ts";
import { PEERS_FOLDER, type Peer } from "./peers.ts";
import type { Work } from "./works.ts";

export interface ContestOptions {
  readonly rounds: number;
  /** Of samples, of each peer in each round. At least one sample is taken. */
  readonly seconds: number;
  /** Longest wait for an answer. */
  readonly limitSeconds: number;
  /** Told who is at work. */
  readonly onTurn?: (what: string) => void;
}

export interface Standing {
  readonly peer: string;
  readonly versions: Readonly<Record<string, string | number>>;
  /** Of one time, over all rounds. */
  readonly medianMs: number;
  /** Median absolute deviation over median. */
  readonly spread: number;
  readonly samples: number;
  readonly rate: number;
  /** Its time over adamix's: the median over rounds, and the interval that holds it. NaN where adamix has none. */
  readonly ratio: number;
  readonly ratioInterval: readonly [low: number, high: number];
  readonly peakMiB: number;
  /** What a reader of its time should know. */
  readonly note: string | null;
  /** The first losses, or some elements of the results. */
  readonly figures: readonly number[];
}

export interface Failure {
  readonly peer: string;
  readonly cannot: string;
}

/** Largest difference of two peers' figures, absolute or as a share of the larger. */
const TOLERANCE = 1e-3;

interface Contestant {
  readonly peer: Peer;
  readonly process: PeerProcess;
  readonly versions: Standing["versions"];
  readonly figures: readonly number[];
  readonly note: string | null;
  readonly rounds: number[][];
  peakMiB: number;
}

/**
 * One work by all peers, each in a process of its own: they prepare one after another, then rounds follow in which
 * each is asked in turn while the others are idle. The first peer is what others are compared with.
 */
export async function contest(
  work: Work,
  folder: string,
  peers: readonly Peer[],
  options: ContestOptions,
): Promise<{ standings: Standing[]; failures: Failure[]; disagreements: string[] }> {
  const failures: Failure[] = [];
  const contestants: Contestant[] = [];
  try {
    for (const peer of peers) {
      options.onTurn?.(`${work.name}: ${peer.name} prepares`);
      const ready = await attempt(peer, failures, () => prepare(peer, folder, options));
      if (ready) contestants.push(ready);
    }
    const running = new Set(contestants);
    for (let round = 0; round < options.rounds; round++) {
      for (let i = 0; i < contestants.length; i++) {
        const one = contestants[(i + round) % contestants.length] as Contestant; // another begins each round
        if (!running.has(one)) continue;
        options.onTurn?.(`${work.name}: ${one.peer.name}, round ${round + 1} of ${options.rounds}`);
        if (!(await attempt(one.peer, failures, () => sample(one, options)))) running.delete(one);
      }
    }
    const finished = contestants.filter((one) => running.has(one));
    const reference = finished.find(({ peer }) => peer === peers[0]);
    return {
      standings: finished.map((one) => standing(one, reference, work)),
      failures,
      disagreements: disagreements(contestants.map(({ peer, figures }) => ({ peer: peer.name, figures }))),
    };
  } finally {
    for (const { process } of contestants) process.stop();
  }
}

/** What `action` gives; null where the peer cannot, which is noted. */
async function attempt<T>(peer: Peer, failures: Failure[], action: () => Promise<T>): Promise<T | null> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    failures.push({ peer: peer.name, cannot: error.message });
    return null;
  }
}

async function prepare(peer: Peer, folder: string, { limitSeconds }: ContestOptions): Promise<Contestant> {
  if (peer.missing !== undefined) throw new PeerError(peer.missing);
  const process = new PeerProcess(peer.command(folder), PEERS_FOLDER, peer.env);
  try {
    const { versions, figures, note } = await process.ask(null, limitSeconds);
    return {
      peer,
      process,
      versions: versions as Standing["versions"],
      figures: figures as number[],
      note: typeof note === "string" ? note : null,
      rounds: [],
      peakMiB: Number.NaN,
    };
  } catch (error) {
    process.stop();
    throw error;
  }
}

async function sample(one: Contestant, { seconds, limitSeconds }: ContestOptions): Promise<true> {
  const { samples, peakMiB } = await one.process.ask({ seconds }, limitSeconds + seconds);
  one.rounds.push(samples as number[]);
  one.peakMiB = peakMiB as number;
  return true;
}

function standing(one: Contestant, reference: Contestant | undefined, work: Work): Standing {
  const samples = one.rounds.flat();
  const medianMs = median(samples);
  const ratios = one.rounds.map((round, i) => median(round) / median(reference?.rounds[i] ?? []));
  return {
    peer: one.peer.name,
    versions: one.versions,
    medianMs,
    spread: spread(samples),
    samples: samples.length,
    rate: work.amount / (medianMs / 1000),
    ratio: median(ratios),
    ratioInterval: medianInterval(ratios),
    peakMiB: one.peakMiB,
    note: one.note,
    figures: one.figures,
  };
}

/** One line for each peer whose figures are not the first one's. */
export function disagreements(
  all: readonly { readonly peer: string; readonly figures: readonly number[] }[],
): string[] {
  const [first, ...others] = all;
  if (!first) return [];
  return others.flatMap(({ peer, figures }) => {
    const wrong = first.figures.findIndex((figure, i) => !agrees(figure, figures[i] ?? Number.NaN));
    if (wrong < 0 && figures.length === first.figures.length) return [];
    const at = Math.max(wrong, 0);
    return [
      `${peer} finds ${figures[at]} where ${first.peer} finds ${first.figures[at]} (figure ${at + 1} of ${first.figures.length} and ${figures.length})`,
    ];
  });
}

function agrees(a: number, b: number): boolean {
  return Math.abs(a - b) <= TOLERANCE * Math.max(1, Math.abs(a), Math.abs(b)); // false of NaN
}
