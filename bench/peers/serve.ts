// How a peer written in JavaScript is asked. One process does one work: what it holds at its peak is this work's.
//
//     node --import tsx PEER BACKEND FOLDER      FOLDER: of writeWork()
//
// It prepares the work, does it as often as the manifest says, and prints {versions, figures, note?}, or {cannot: reason}.
// Then for each line {seconds} it prints {samples: milliseconds of one time each, peakMiB}.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { checkDevices } from "./shim.ts";

export interface Given {
  readonly name: string;
  readonly kind: string;
  readonly settings: Readonly<Record<string, number | boolean>>;
  readonly rehearsals: number;
  /** Names in the order of the manifest. */
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  /** Its values, as Float32Array or Int32Array. */
  values(name: string): Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
  shape(name: string): number[];
}

/** A work that is ready to be done again and again. */
export interface Prepared {
  /** What a reader of its time should know. */
  readonly note?: string;
  /** Does it once. The device may still be at it afterwards. */
  run(): void | Promise<void>;
  /** Waits until the device has done everything. */
  settle(): unknown;
  /** Numbers that every peer must find, of what run() did last. */
  figures(): Promise<number[]>;
}

/** Samples last at least so long, far above the millisecond by which a polite wait may be late. */
const SAMPLE_MS = 30;
const MOST_REPEATS = 256;

interface Peer {
  readonly versions: Readonly<Record<string, string | number>>;
  readonly prepare: (given: Given) => Promise<Prepared>;
}

/** The backend that this process was started for. */
export const backend = process.argv[2] ?? "";

/** Answers requests until stdin ends. */
export async function serve(start: () => Promise<Peer>): Promise<void> {
  try {
    const { versions, prepare } = await start();
    const given = readWork(process.argv[3] ?? "");
    const prepared = await prepare(given);
    const figures: number[] = [];
    let lastMs = Number.NaN;
    for (let i = 0; i < given.rehearsals; i++) {
      const started = performance.now();
      await prepared.run();
      figures.push(...(await prepared.figures()));
      lastMs = performance.now() - started;
    }
    const isLong = given.rehearsals > 1 && lastMs > SAMPLE_MS; // a first time may have compiled
    const repeats = isLong ? 1 : await findRepeats(prepared);
    checkDevices();
    print({ versions, figures, note: prepared.note });
    for await (const line of createInterface({ input: process.stdin })) {
      const { seconds } = JSON.parse(line) as { seconds: number };
      const samples = await sample(prepared, repeats, seconds);
      checkDevices();
      print({ samples, peakMiB: peakMiB() });
    }
  } catch (error) {
    print({ cannot: error instanceof Error ? error.message : String(error) });
  }
  process.exit(); // engines leave handles and workers behind
}

async function sample(prepared: Prepared, repeats: number, seconds: number): Promise<number[]> {
  const samples: number[] = [];
  const until = performance.now() + 1000 * seconds;
  do samples.push((await time(prepared, repeats)) / repeats);
  while (performance.now() < until);
  return samples;
}

async function time(prepared: Prepared, repeats: number): Promise<number> {
  const started = performance.now();
  for (let i = 0; i < repeats; i++) await prepared.run();
  await prepared.settle();
  return performance.now() - started;
}

/** How often the work is done between two waits, so that a sample is long enough. Fixed from then on. */
async function findRepeats(prepared: Prepared): Promise<number> {
  await time(prepared, 1);
  const fastestMs = await time(prepared, 1);
  return Math.max(1, Math.min(MOST_REPEATS, Math.ceil(SAMPLE_MS / fastestMs)));
}

/** What writeWork() wrote. */
export function readWork(folder: string): Given {
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  const bytes = readFileSync(join(folder, "tensors.bin"));
  const entry = (name: string): { shape: number[]; dtype: "f32" | "i32"; offset: number } => {
    const found = manifest.tensors.find((tensor: { name: string }) => tensor.name === name);
    if (!found) throw new RangeError(`manifest: no tensor "${name}" in ${folder}`);
    return found;
  };
  return {
    ...manifest,
    shape: (name) => entry(name).shape,
    values(name) {
      const { shape, dtype, offset } = entry(name);
      const size = shape.reduce((product, n) => product * n, 1);
      const copy = new Uint8Array(bytes.subarray(offset, offset + 4 * size)).buffer;
      return dtype === "f32" ? new Float32Array(copy) : new Int32Array(copy);
    },
  };
}

/** The process's largest resident memory so far; NaN where Linux's /proc is not there. */
function peakMiB(): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) / 1024;
  } catch {
    return Number.NaN;
  }
}

/** Some elements of an array, spread evenly: enough to see that two engines computed the same. */
export function someOf(values: ArrayLike<number>, n = 16): number[] {
  return Array.from(
    { length: n },
    (_, i) => values[Math.floor(((2 * i + 1) * values.length) / (2 * n))] as number,
  );
}

function print(message: object): void {
  console.log(JSON.stringify(message));
}
