// What the project wants to reach beside other engines and methods, and what the committed results say: the table of
// bench/README.md, which a test compares with the files.
//
//     npm run bench:goals       writes the table from results/peers-*.json and results/ratios-*.json
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A part of what peers/run.ts writes. */
interface PeersFile {
  readonly date: string;
  readonly results: readonly {
    readonly work: string;
    readonly standings: readonly {
      readonly peer: string;
      readonly ratio: number;
      readonly ratioInterval: readonly [low: number, high: number];
      readonly peakMiB: number;
    }[];
  }[];
}

/** A part of what ratios.ts writes. */
interface RatiosFile {
  readonly date: string;
  readonly results: readonly {
    readonly model: string;
    readonly ratios: readonly {
      readonly name: string;
      readonly time: number;
      readonly interval: readonly [low: number, high: number];
      readonly peak: number;
    }[];
  }[];
}

interface Line {
  readonly what: string;
  readonly on: string;
  /** "at least" or "at most" so much. */
  readonly goal: readonly [way: "≥" | "≤", value: number];
  readonly value: number;
  readonly interval?: readonly [low: number, high: number] | undefined;
}

const START = "<!-- goals:start -->";
const END = "<!-- goals:end -->";
const README = fileURLToPath(new URL("README.md", import.meta.url));
const MATMULS = ["512", "1024", "1024x768x3072"].flatMap((size) =>
  ["nn", "nt", "tn"].map((form) => `matmul-${form}-${size}`),
);
const WEBGPU_PEERS = /^(jax-js|tfjs) webgpu/;
const JAVASCRIPT_PEERS = /^(jax-js|tfjs)/;

function read<T>(name: string): T {
  const path = fileURLToPath(new URL(`results/${name}.json`, import.meta.url));
  if (!existsSync(path))
    throw new Error(`goals: no results/${name}.json; see bench/README.md on what writes it`);
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

type Standing = PeersFile["results"][number]["standings"][number];

function standings({ results }: PeersFile, work: string): readonly Standing[] {
  const found = results.find((result) => result.work === work)?.standings;
  if (!found?.some(({ peer }) => peer === "adamix"))
    throw new Error(`goals: the results hold no ${work} of adamix`);
  return found;
}

/** The fastest of some peers. */
function fastest(all: readonly Standing[], peers: RegExp): Standing {
  const [first] = all.filter(({ peer }) => peers.test(peer)).sort((a, b) => a.ratio - b.ratio);
  if (!first) throw new Error(`goals: the results hold no peer like ${peers}`);
  return first;
}

function timesFaster(file: PeersFile, on: string, work: string, peers: RegExp, goal: number): Line {
  const { peer, ratio, ratioInterval } = fastest(standings(file, work), peers);
  return {
    what: `${work}: time of ${peer} over adamix's`,
    on,
    goal: ["≥", goal],
    value: ratio,
    interval: ratioInterval,
  };
}

function peersLines(): Line[] {
  const [lavapipe, swiftshader] = [read<PeersFile>("peers-lavapipe"), read<PeersFile>("peers-swiftshader")];
  const step = standings(lavapipe, "step");
  const own = step.find(({ peer }) => peer === "adamix") as Standing;
  const least = step
    .filter(({ peer }) => JAVASCRIPT_PEERS.test(peer))
    .sort((a, b) => a.peakMiB - b.peakMiB)[0];
  if (!least) throw new Error("goals: the step has no JavaScript peer");
  const openBlas = (work: string): Line => {
    const { peer, ratio } = fastest(standings(lavapipe, work), /^torch cpu/);
    return {
      what: `${work}: speed over that of ${peer} (OpenBLAS)`,
      on: "lavapipe",
      goal: ["≥", 0.2],
      value: ratio,
    };
  };
  const on = "lavapipe";
  return [
    timesFaster(lavapipe, on, "step", /^jax-js webgpu/, 6),
    timesFaster(lavapipe, on, "step", /^tfjs webgpu/, 10),
    timesFaster(lavapipe, on, "step", /^jax-js wasm/, 1.3),
    {
      what: `step: peak memory over that of ${least.peer}`,
      on,
      goal: ["≤", 1],
      value: own.peakMiB / least.peakMiB,
    },
    timesFaster(swiftshader, "SwiftShader", "step", /^jax-js webgpu/, 1.5),
    ...MATMULS.map((work) => timesFaster(lavapipe, on, work, WEBGPU_PEERS, 7)),
    ...MATMULS.map(openBlas),
    ...["layerNorm", "softmax"].map((work) => timesFaster(lavapipe, on, work, WEBGPU_PEERS, 5)),
  ];
}

/** By the names that ratios.ts gives them, as far as a goal is set. */
const RATIO_GOALS: Readonly<Record<string, readonly [time: number, peak: number | null]>> = {
  "lora / full": [0.75, 0.6],
  "adapter / full": [0.75, 0.6],
  "adamix, one pass / adapter": [1.03, null],
  "adamix, two passes in one batch / adapter": [2.05, null],
  "adamix, two passes after one another / adapter": [2.05, null],
  "adamix, one pass / lora": [1.03, null],
  "adamix, two passes in one batch / lora": [2.05, null],
  "adamix, two passes after one another / lora": [2.05, null],
};

function ratiosLines(): Line[] {
  return read<RatiosFile>("ratios-lavapipe").results.flatMap(({ model, ratios }) =>
    ratios.flatMap(({ name, time, interval, peak }): Line[] => {
      const goals = RATIO_GOALS[name];
      if (!goals) return [];
      const [ofTime, ofPeak] = goals;
      const line = { what: `${model}: step, ${name}`, on: "lavapipe" };
      const timed: Line = { ...line, goal: ["≤", ofTime], value: time, interval };
      if (ofPeak === null) return [timed];
      return [
        timed,
        { what: `${model}: peak bytes, ${name}`, on: "lavapipe", goal: ["≤", ofPeak], value: peak },
      ];
    }),
  );
}

function isReached({ goal: [way, wanted], value }: Line): boolean {
  return way === "≥" ? value >= wanted : value <= wanted;
}

const digits = (value: number): string => value.toFixed(value < 10 ? 2 : 1);

/** The table as markdown. */
export function goalsTable(): string {
  const lines = [...peersLines(), ...ratiosLines()];
  const rows = lines.map((line) => {
    const { what, on, goal, value, interval } = line;
    const range = interval ? ` (${interval.map(digits).join(" to ")})` : "";
    return `| ${what} | ${on} | ${goal.join(" ")} | ${digits(value)}${range} | ${isReached(line) ? "yes" : "no"} |`;
  });
  const reached = lines.filter(isReached).length;
  return [
    `${reached} of ${lines.length} goals are reached.`,
    "",
    "| what | adapter | goal | measured (95%) | reached |",
    "|---|---|---|---:|---|",
    ...rows,
  ].join("\n");
}

/** What bench/README.md holds just now. */
export function writtenTable(text = readFileSync(README, "utf8")): string {
  return text.slice(text.indexOf(START) + START.length, text.indexOf(END)).trim();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = readFileSync(README, "utf8");
  const [before, after] = [text.slice(0, text.indexOf(START) + START.length), text.slice(text.indexOf(END))];
  writeFileSync(README, `${before}\n${goalsTable()}\n${after}`);
  console.log(goalsTable());
}
