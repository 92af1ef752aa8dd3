// Stochastic routing beside routers with parameters: one task, one encoder, the same steps, several seeds, one table.
//
//     node --import tsx bench/studies/routers.ts [--seeds 3] [--steps 60] [--split test] [--rate-factor 1]
//
// The embedded encoder, LoRA of rank 8 on query and value with B shared, 96 labelled sentences, held-out ones of unseen
// combinations. Drawn mixtures are scored merged, learned routers as they are, since they cannot be merged.
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type LabelledSentence, SENTIMENT_LABELS } from "../../src/data/index.ts";
import { type Gpu, openGpu, Stream } from "../../src/index.ts";
import { countParameters } from "../../src/nn/index.ts";
import {
  AdaptationSet,
  adamixLora,
  type Granularity,
  type LearnedRouter,
  lora,
  type PeftMethod,
  softRouter,
  topKRouter,
} from "../../src/peft/index.ts";
import {
  demoHeldOutSentences,
  demoTrainingSentences,
  EMBEDDED,
  expectedCalibrationError,
  fineTune,
  infer,
  loadClassifier,
  openPretrained,
  type PretrainedFolder,
  probabilities,
  scoreLogits,
  spread,
} from "../../src/train/index.ts";

/** One line of the table. */
interface Contestant {
  readonly name: string;
  readonly method: PeftMethod;
  /** Peak learning rate, chosen on the dev split with seeds of its own (100, 101). */
  readonly lr: number;
  /** Steps, in those of the study: 2 makes up for the second pass of a drawn mixture. */
  readonly length?: number;
  readonly routing?: Granularity;
  readonly router?: LearnedRouter;
}

const RANK = { rank: 8 };

export const CONTESTANTS: readonly Contestant[] = [
  { name: "LoRA", method: lora(RANK), lr: 0.006 },
  { name: "LoRA, equal passes", method: lora(RANK), lr: 0.006, length: 2 },
  { name: "AdaMix, route of the batch", method: adamixLora(RANK), lr: 0.02 },
  { name: "AdaMix, of each example", method: adamixLora(RANK), lr: 0.01, routing: "example" },
  { name: "AdaMix, of each token", method: adamixLora(RANK), lr: 0.01, routing: "token" },
  { name: "soft router", method: adamixLora(RANK), lr: 0.006, router: softRouter() },
  { name: "top-1 router", method: adamixLora(RANK), lr: 0.006, router: topKRouter({ k: 1 }) },
  { name: "top-2 router", method: adamixLora(RANK), lr: 0.006, router: topKRouter({ k: 2 }) },
];

export interface StudyOptions {
  readonly seeds: readonly number[];
  readonly steps: number;
  readonly split: "dev" | "test";
  /** At most so many sentences are scored. */
  readonly limit?: number;
  /** Multiplies every learning rate: for the search of rates. Default 1. */
  readonly rateFactor?: number;
  readonly onRun?: (line: string) => void;
}

/** What one contestant reached with one seed. */
export interface StudyRun {
  readonly name: string;
  readonly seed: number;
  readonly trained: number;
  readonly deployed: number;
  readonly passes: number;
  readonly accuracy: number;
  readonly nll: number;
  readonly calibrationError: number;
  readonly millisecondsPerStep: number;
}

/** Runs every contestant with every seed. */
export async function compareRouters(gpu: Gpu, options: StudyOptions): Promise<StudyRun[]> {
  const source = await openPretrained(EMBEDDED);
  const runs: StudyRun[] = [];
  for (const seed of options.seeds) {
    for (const contestant of CONTESTANTS) {
      const run = await runOne(gpu, source, contestant, seed, options);
      runs.push(run);
      options.onRun?.(
        `${contestant.name}, seed ${seed}: accuracy ${run.accuracy.toFixed(3)}, NLL ${run.nll.toFixed(3)}`,
      );
    }
  }
  return runs;
}

async function runOne(
  gpu: Gpu,
  source: PretrainedFolder,
  { name, method, lr, length = 1, routing = "batch", router }: Contestant,
  seed: number,
  { steps, split, limit, rateFactor = 1 }: StudyOptions,
): Promise<StudyRun> {
  const encode = ({ text, label }: LabelledSentence) => ({
    ids: source.tokenizer.encode(text, null, { maxLength: source.longest }),
    label,
  });
  const train = demoTrainingSentences(seed).map(encode);
  const heldOut = demoHeldOutSentences(split).slice(0, limit).map(encode);
  const model = await loadClassifier(gpu, source, { labels: [...SENTIMENT_LABELS], seed });
  const stream = Stream.seed(seed);
  const set = new AdaptationSet(gpu, model, method, { stream, router: router ?? null });
  const { optimiser, millisecondsPerStep } = await fineTune(gpu, model, set, {
    train,
    steps: length * steps,
    batchSize: 8,
    multiple: 4,
    lr: lr * rateFactor,
    seed,
    routing,
    optimiser: { weightDecay: 0.01, undrawn: "skip" },
  });
  const labels = heldOut.map(({ label }) => label as number);
  const { logits } = await infer(gpu, model, set, heldOut, { stream });
  const trained = countParameters(set.parameters());
  const merged = set.isMixture ? set.mergeExperts(model, stream) : null;
  const run = {
    name,
    seed,
    trained,
    deployed: merged ? countParameters(merged.parameters()) : trained,
    passes: length * steps * (set.isMixture ? 2 : 1),
    ...scoreLogits(logits, labels),
    calibrationError: expectedCalibrationError(probabilities(logits, SENTIMENT_LABELS.length), labels),
    millisecondsPerStep,
  };
  merged?.dispose();
  for (const one of [optimiser, set, model]) one.dispose();
  return run;
}

/** One row for each contestant: mean ± deviation over seeds. */
export function studyTable(runs: readonly StudyRun[]): string {
  const names = [...new Set(runs.map(({ name }) => name))];
  const head = ["", "trained", "deployed", "passes", "accuracy", "NLL", "calibration error", "ms a step"];
  const rows = names.map((name) => {
    const own = runs.filter((run) => run.name === name);
    const over = (pick: (run: StudyRun) => number): string => {
      const { mean, sd } = spread(own.map(pick));
      return `${mean.toFixed(3)} ± ${sd.toFixed(3)}`;
    };
    const [first] = own as [StudyRun];
    return [
      name,
      String(first.trained),
      String(first.deployed),
      String(first.passes),
      over(({ accuracy }) => accuracy),
      over(({ nll }) => nll),
      over(({ calibrationError }) => calibrationError),
      Math.min(...own.map(({ millisecondsPerStep }) => millisecondsPerStep)).toFixed(0),
    ];
  });
  const widths = head.map((text, i) => Math.max(text.length, ...rows.map((row) => (row[i] ?? "").length)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: "3" },
      first: { type: "string", default: "0" },
      steps: { type: "string", default: "60" },
      split: { type: "string", default: "test" },
      "rate-factor": { type: "string", default: "1" },
    },
  });
  const gpu = await openGpu();
  const first = Number(values.first);
  const runs = await compareRouters(gpu, {
    seeds: Array.from({ length: Number(values.seeds) }, (_, i) => first + i),
    steps: Number(values.steps),
    split: values.split === "dev" ? "dev" : "test",
    rateFactor: Number(values["rate-factor"]),
    onRun: (line) => console.log(line),
  });
  console.log(`\n${values.split}, ${values.seeds} seeds from ${first}, on ${gpu.device.traits.name}\n`);
  console.log(studyTable(runs));
  await gpu.device.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
