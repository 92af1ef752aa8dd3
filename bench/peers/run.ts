// The same work on adamix and on other engines, in one interleaved run. Prints a table for each work.
//
//     npm ci --prefix bench/peers           once: the other engines
//     npm start --prefix bench/peers        everything; writes bench/results/peers-<adapter>.json
//     ... -- --work step,softmax            works whose names hold one of the texts; writes nothing
//     ... -- --peers adamix,jax-js          peers whose names hold one of the texts; writes nothing
//     ... -- --write                        writes the file also of a choice
//     ... -- --rounds 10 --seconds 2        default 6 rounds of 1 second for each peer
//     ... -- --limit 600                    seconds that a peer may take for an answer, default 300
//     ... -- --list                         works and peers
//
// ADAMIX_DEVICE chooses the adapter of all that run on WebGPU. See bench/README.md.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { circumstances, rounded, writeResults } from "../record.ts";
import { contest, type Failure, type Standing } from "./contest.ts";
import { peers } from "./peers.ts";
import { type Work, works, writeWork } from "./works.ts";

const { values } = parseArgs({
  options: {
    work: { type: "string", default: "" },
    peers: { type: "string", default: "" },
    rounds: { type: "string", default: "6" },
    seconds: { type: "string", default: "1" },
    limit: { type: "string", default: "300" },
    list: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const options = {
  rounds: positive("rounds"),
  seconds: positive("seconds"),
  limitSeconds: positive("limit"),
  onTurn: (what: string): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${what}`);
  },
};
const chosenWorks = chosen("work", works());
const chosenPeers = chosen("peers", peers());
if (values.list)
  console.log([...chosenWorks, "", ...chosenPeers].map((x) => (x as Work).name ?? x).join("\n"));
else await main();

function positive(name: "rounds" | "seconds" | "limit"): number {
  const value = Number(values[name]);
  if (!(value > 0)) throw new RangeError(`peers: --${name} is ${values[name]}, expected more than 0`);
  return name === "rounds" ? Math.ceil(value) : value;
}

function chosen<T extends { readonly name: string }>(option: "work" | "peers", all: readonly T[]): T[] {
  const parts = values[option].split(",");
  const found = all.filter(({ name }) => parts.some((part) => name.includes(part)));
  if (found.length === 0)
    throw new RangeError(
      `peers: --${option} ${values[option]} is in none of ${all.map(({ name }) => name).join(", ")}`,
    );
  return found;
}

async function main(): Promise<void> {
  const before = circumstances(); // the load of others, before ours
  const folder = mkdtempSync(join(tmpdir(), "adamix-peers-"));
  const results: object[] = [];
  const versions: Record<string, Standing["versions"]> = {};
  try {
    for (const work of chosenWorks) {
      const workFolder = join(folder, work.name);
      writeWork(work, workFolder);
      const { standings, failures, disagreements } = await contest(work, workFolder, chosenPeers, options);
      rmSync(workFolder, { recursive: true });
      options.onTurn("");
      print(work, standings, failures);
      for (const line of disagreements) console.log(`DISAGREEMENT: ${line}`);
      if (disagreements.length > 0) process.exitCode = 1;
      for (const { peer, versions: own } of standings) versions[peer] = own;
      results.push({
        work: work.name,
        unit: work.unit,
        standings: standings.map(toWrite),
        failures,
        disagreements,
      });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if ((values.work || values.peers) && !values.write) return;
  const adapter = `${versions.adamix?.adapter ?? "unknown"}`;
  const { rounds, seconds } = options;
  const record = { adapter, ...before, versions, rounds, seconds, results };
  console.log(`written to ${writeResults(`peers-${adapter}`, record)}`);
}

function print(work: Work, standings: readonly Standing[], failures: readonly Failure[]): void {
  const table = new Table({
    head: [
      work.name,
      "median",
      "± median",
      "samples",
      "rate at median",
      "time / adamix's",
      "95%",
      "peak MiB",
    ],
    colAligns: ["left", "right", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const one of standings) {
    const [low, high] = one.ratioInterval;
    table.push([
      one.peer,
      `${one.medianMs.toFixed(2)} ms`,
      `${(100 * one.spread).toFixed(1)}%`,
      one.samples,
      `${one.rate >= 100 ? Math.round(one.rate).toLocaleString("en-US") : one.rate.toFixed(1)} ${work.unit}`,
      one.ratio.toFixed(2),
      `${low.toFixed(2)}..${high.toFixed(2)}`,
      Math.round(one.peakMiB),
    ]);
  }
  for (const { peer, cannot } of failures)
    table.push([peer, { content: cannot, colSpan: 7, hAlign: "left" }]);
  console.log(table.toString());
  for (const { peer, note } of standings) if (note !== null) console.log(`${peer}: ${note}`);
}

/** Versions stand once in the file, and figures are of interest where they differ. */
function toWrite({ versions: _, figures, ...rest }: Standing): object {
  const numbers = Object.entries(rest).map(([name, value]) => {
    if (typeof value === "number") return [name, Number.isInteger(value) ? value : rounded(value)];
    return [name, Array.isArray(value) ? value.map(rounded) : value];
  });
  return { ...Object.fromEntries(numbers), figures: figures.slice(0, 3) };
}
