import type { Gpu } from "../array/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import type { AdaptationSet } from "../peft/index.ts";
import {
  checkKernelOptions,
  decidingScore,
  fineTune,
  KERNELS_FILE,
  type KernelRecord,
  MergedView,
  RunFolder,
  type StepReport,
} from "../train/index.ts";
import { type Override, readConfig } from "./config-file.ts";
import { labelsLine, score } from "./evaluation.ts";
import { describeKernels } from "./kernels.ts";
import { resolveConfig } from "./presets.ts";
import { createProgress } from "./progress.ts";
import { grouped, print, rate, scoreLine, table } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { countsOf, type ParameterCounts, writeResults } from "./train-results.ts";
import { buildModel, optionsOf, type Prepared, prepare, stepsOfEpoch } from "./train-setup.ts";

export interface TrainCommand {
  readonly file: string | undefined;
  readonly overrides: readonly Override[];
  readonly device: string | undefined;
  /** Steps between printed lines. */
  readonly logEvery: number | undefined;
}

/** Trains by a config, evaluates the merged experts, and writes the run's folder. */
export async function train({ file, overrides, device, logEvery }: TrainCommand): Promise<void> {
  const input = readConfig(file, overrides);
  const config = resolveConfig(input);
  const replace = input.force ?? false;
  RunFolder.check(config.out, { replace });
  const prepared = await prepare(config);
  await withGpu(device, async (gpu) => {
    print(`adamix train: ${config.method} on ${config.task}, on ${describeDevice(gpu)}`);
    await trainOn(gpu, prepared, replace, logEvery);
  });
}

async function trainOn(
  gpu: Gpu,
  prepared: Prepared,
  replace: boolean,
  logEvery: number | undefined,
): Promise<void> {
  const { config, dev, metrics, kernels } = prepared;
  checkKernelOptions("train", gpu, optionsOf(prepared));
  const { model, set } = await buildModel(gpu, prepared);
  const view = new MergedView(model, set);
  const counts = countsOf(model, set, view.set);
  const run = RunFolder.create(config.out, config, { replace });
  if (kernels) run.write(KERNELS_FILE, kernels);
  announce(prepared, counts, run);
  const trained = await runSteps(gpu, model, set, view, prepared, run, logEvery);
  const scores = await view.use(() => score(gpu, model, dev, metrics));
  print(`dev, ${set?.isMixture ? "merged experts" : config.method}: ${scoreLine(scores)}`);
  await writeResults(gpu, run, prepared, { model, set, view, trained, scores, counts });
  print(`written to ${run.path}`);
}

/** Trains with progress, and logs every step and evaluation. */
async function runSteps(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet | null,
  view: MergedView,
  prepared: Prepared,
  run: RunFolder,
  logEvery: number | undefined,
): Promise<Awaited<ReturnType<typeof fineTune>>> {
  const { config, steps, dev, metrics } = prepared;
  const progress = createProgress(steps, logEvery);
  const onStep = (report: StepReport): void => {
    const { step, loss, consistency, lr, routes, drawn } = report;
    // Routes of tokens are too many: how often each expert was drawn says enough, and the seed says the rest.
    run.log({ step, loss, consistency, lr, routes, ...(drawn && !routes && { drawn }) });
    progress.update(step, report.remainingMs, () => describeStep(report));
  };
  const evaluate = {
    everySteps: config.training.evaluateEverySteps ?? stepsOfEpoch(prepared),
    score: async (step: number): Promise<number> => {
      const scores = await view.use(() => score(gpu, model, dev, metrics));
      run.log({ step, split: "dev", ...scores });
      progress.note(`step ${step}/${steps}  dev ${scoreLine(scores)}`);
      return decidingScore(metrics, scores);
    },
  };
  const onTuned = (record: KernelRecord): void => {
    run.write(KERNELS_FILE, record);
    progress.note(`tuned: ${describeKernels(record)}`);
  };
  const tune = config.tune && { onTuned };
  try {
    return await fineTune(gpu, model, set, { ...optionsOf(prepared), tune, evaluate, onStep });
  } finally {
    progress.stop();
  }
}

function announce(
  { config, train: examples, dev, steps, metrics }: Prepared,
  counts: ParameterCounts,
  run: RunFolder,
): void {
  print(`config: ${run.path}/config.json`);
  print(
    `${grouped(examples.length)} examples to train on, ${grouped(dev.length)} to evaluate on (${labelsLine(dev, metrics)}); ${steps} steps of ${config.training.batchSize}`,
  );
  const percent = (n: number) => `${((100 * n) / counts.base).toFixed(2)}%`;
  print(
    table(
      ["parameters", "number", "of the encoder"],
      [
        ["in training", grouped(counts.training), percent(counts.training)],
        ["after merging", grouped(counts.merged), percent(counts.merged)],
        ["head, apart", grouped(counts.head), ""],
        ["encoder", grouped(counts.base), ""],
      ],
    ),
  );
}

function describeStep({ loss, consistency, lr, examplesPerSecond }: StepReport): string {
  const term = consistency === null ? "" : `  consistency ${consistency.toFixed(4)}`;
  return `loss ${loss.toFixed(4)}${term}  lr ${rate(lr)}  ${examplesPerSecond.toFixed(0)} examples/s`;
}
