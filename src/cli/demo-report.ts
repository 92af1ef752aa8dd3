import Table from "cli-table3";
import { spread } from "../train/index.ts";
import type { DemoResult } from "./demo-run.ts";

/** The table of the demonstration: one row for each method, means and deviations over seeds. */
export function demoTable(results: readonly DemoResult[]): string {
  const table = new Table({
    head: [
      "method",
      "trained",
      "merged",
      "passes",
      "accuracy",
      "NLL",
      "random routing",
      "ensemble of 4",
      "ms/step",
      "KB saved",
    ],
    colAligns: ["left", ...new Array<"right">(9).fill("right")],
    style: { head: [], border: [], compact: true },
  });
  for (const runs of byMethod(results).values()) {
    const [first] = runs;
    if (!first) continue;
    const { parameters, passes } = first;
    const routes = runs.flatMap((run) => run.routes ?? []);
    table.push([
      first.method.name,
      count(parameters.training),
      count(parameters.merged),
      String(passes),
      withSpread(runs.map((run) => run.merged.accuracy)),
      withSpread(runs.map((run) => run.merged.nll)),
      routes.length > 0 ? withSpread(routes.map((r) => r.random)) : "",
      routes.length > 0 ? withSpread(routes.map((r) => r.ensemble.accuracy)) : "",
      spread(runs.map((run) => run.millisecondsPerStep)).mean.toFixed(1),
      (spread(runs.map((run) => run.savedBytes)).mean / 1000).toFixed(1),
    ]);
  }
  return table.toString();
}

/** A paired comparison over seeds. */
interface Comparison {
  readonly what: string;
  readonly differences: readonly number[];
}

/** What the numbers allow to say, in words computed from them. */
export function demoFindings(results: readonly DemoResult[]): string[] {
  const groups = byMethod(results);
  const accuracy = (name: string): number[] => (groups.get(name) ?? []).map((run) => run.merged.accuracy);
  const nll = (name: string): number[] => (groups.get(name) ?? []).map((run) => run.merged.nll);
  const random = (name: string): number[] => (groups.get(name) ?? []).map((run) => run.routes?.random ?? 0);
  const difference = (a: readonly number[], b: readonly number[]): number[] =>
    a.map((x, i) => x - (b[i] ?? 0));
  const comparisons: Comparison[] = [
    {
      what: "Pretraining: LoRA's accuracy on the pretrained encoder against the random one",
      differences: difference(accuracy("lora"), accuracy("lora, random encoder")),
    },
    {
      what: "Adapting the encoder: LoRA's accuracy against the head alone",
      differences: difference(accuracy("lora"), accuracy("head only")),
    },
    {
      what: "LoRA's accuracy against the adapter's",
      differences: difference(accuracy("lora"), accuracy("adapter")),
    },
    {
      what: "AdaMix-adapter's accuracy against the adapter's, equal steps",
      differences: difference(accuracy("adamix-adapter"), accuracy("adapter")),
    },
    {
      what: "AdaMix-adapter's accuracy against the adapter's, equal passes",
      differences: difference(accuracy("adamix-adapter"), accuracy("adapter, equal passes")),
    },
    {
      what: "AdaMix-LoRA's accuracy against LoRA's, equal steps",
      differences: difference(accuracy("adamix-lora"), accuracy("lora")),
    },
    {
      what: "AdaMix-LoRA's accuracy against LoRA's, equal passes",
      differences: difference(accuracy("adamix-lora"), accuracy("lora, equal passes")),
    },
    {
      what: "AdaMix-LoRA's NLL against LoRA's, equal passes",
      differences: difference(nll("adamix-lora"), nll("lora, equal passes")),
    },
    {
      what: "AdaMix-LoRA, merged experts' accuracy against single random routes",
      differences: difference(accuracy("adamix-lora"), random("adamix-lora")),
    },
    {
      what: "AdaMix-adapter, merged experts' accuracy against single random routes",
      differences: difference(accuracy("adamix-adapter"), random("adamix-adapter")),
    },
  ];
  return comparisons.map(verdict);
}

/** "+0.024 (95% ±0.010), higher in 9 of 10 seeds: a difference", by Student's t on paired differences. */
function verdict({ what, differences }: Comparison): string {
  const n = differences.length;
  const { mean, sd } = spread(differences);
  const sign = mean < 0 ? "-" : "+";
  const value = `${sign}${Math.abs(mean).toFixed(3)}`;
  if (n < 2) return `${what}: ${value} with one seed: nothing can be concluded.`;
  const margin = (criticalT(n - 1) * sd) / Math.sqrt(n);
  const side = mean < 0 ? "lower" : "higher";
  const agreeing = differences.filter((d) => Math.sign(d) === Math.sign(mean)).length;
  const conclusion =
    Math.abs(mean) > margin ? `${side} beyond chance` : `no difference can be concluded from ${n} seeds`;
  return `${what}: ${value} (95% interval ±${margin.toFixed(3)}), ${side} in ${agreeing} of ${n}: ${conclusion}.`;
}

/** Two-sided 95% points of Student's t. */
const CRITICAL_T = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
];

function criticalT(degrees: number): number {
  // Beyond the table: Cornish-Fisher's expansion around the normal point.
  const z = 1.959964;
  return CRITICAL_T[degrees - 1] ?? z + (z ** 3 + z) / (4 * degrees);
}

function byMethod(results: readonly DemoResult[]): Map<string, DemoResult[]> {
  const groups = new Map<string, DemoResult[]>();
  for (const result of results) {
    const group = groups.get(result.method.name);
    if (group) group.push(result);
    else groups.set(result.method.name, [result]);
  }
  return groups;
}

function withSpread(values: readonly number[]): string {
  const { mean, sd } = spread(values);
  return values.length > 1 ? `${mean.toFixed(3)} ± ${sd.toFixed(3)}` : mean.toFixed(3);
}

function count(n: number): string {
  return n === 0 ? "0" : n.toLocaleString("en-US");
}
