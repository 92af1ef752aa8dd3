import type { Gpu } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import { type Encoded, SENTIMENT_LABELS } from "../data/index.ts";
import { countParameters } from "../nn/index.ts";
import { AdaptationSet, uniformRouter } from "../peft/index.ts";
import { fileInfo, joinPath } from "../platform/index.ts";
import {
  type ClassificationScores,
  EMBEDDED,
  fineTune,
  loadClassifier,
  MergedView,
  type PretrainedFolder,
  predict,
  predictRoutes,
  RunFolder,
  saveAdapter,
  scoreEnsemble,
  scoreLogits,
} from "../train/index.ts";
import type { DemoMethod } from "./demo-methods.ts";

/** What one method reached with one seed. */
export interface DemoResult {
  readonly method: DemoMethod;
  readonly seed: number;
  readonly parameters: { readonly training: number; readonly merged: number; readonly head: number };
  readonly passes: number;
  readonly merged: ClassificationScores;
  /** Mean accuracy of single routes, and their ensemble; null without a mixture. */
  readonly routes: {
    readonly random: number;
    readonly ensemble: ClassificationScores;
  } | null;
  readonly millisecondsPerStep: number;
  readonly savedBytes: number;
}

export interface DemoData {
  readonly source: PretrainedFolder;
  readonly train: readonly Encoded[];
  readonly test: readonly Encoded[];
  readonly out: string;
}

const BATCH = 8;
/** Training lengths are padded to a multiple of this: sentences are short, so eight would cost a tenth more. */
const MULTIPLE = 4;
const ROUTES = 4;
const LABELS = [...SENTIMENT_LABELS];

/** Trains, evaluates, merges and saves one method with one seed. */
export async function demoRun(
  gpu: Gpu,
  method: DemoMethod,
  seed: number,
  data: DemoData,
): Promise<DemoResult> {
  const { source, train, test } = data;
  const model = await loadClassifier(gpu, source, { labels: LABELS, seed, pretrained: method.pretrained });
  const stream = Stream.seed(seed);
  const set = method.method ? new AdaptationSet(gpu, model, method.method, { stream }) : null;
  const settings = settingsOf(method, seed);
  const run = RunFolder.create(joinPath(data.out, `${method.folder}-seed${seed}`), settings, {
    replace: true,
  });
  const { optimiser, millisecondsPerStep } = await fineTune(gpu, model, set, {
    train,
    ...settings.training,
    onStep: ({ step, loss, consistency, lr, routes }) => run.log({ step, loss, consistency, lr, routes }),
  });
  const labels = test.map(({ label }) => label as number);
  const view = new MergedView(model, set);
  const scores = await view.use(async () => scoreLogits(await predict(gpu, model, test), labels));
  const routes = set?.isMixture ? await scoreRoutes(gpu, model, set, test, labels, seed) : null;
  const provenance = {
    base: EMBEDDED,
    labels: LABELS,
    task: "sentiment",
    split: "test",
    seed,
    pretrained: method.pretrained,
  };
  await saveAdapter(run.folder("checkpoint"), model, set, provenance);
  await view.use(() => saveAdapter(run.folder("merged"), model, view.set, provenance));
  const merged = countParameters(view.set?.parameters() ?? []);
  const result: DemoResult = {
    method,
    seed,
    parameters: {
      training: countParameters(set?.parameters() ?? []),
      merged,
      head: countParameters(model.head.parameters()),
    },
    passes: method.steps * (set?.isMixture ? 2 : 1),
    merged: scores,
    routes,
    millisecondsPerStep,
    savedBytes: fileInfo(joinPath(run.folder("merged"), "adapter.safetensors"))?.bytes ?? 0,
  };
  run.write("summary.json", { ...result, method: method.name, adapter: gpu.device.traits.name });
  optimiser.dispose();
  view.dispose();
  set?.dispose();
  model.dispose();
  return result;
}

function settingsOf({ name, method, lr, steps, pretrained }: DemoMethod, seed: number) {
  return {
    model: EMBEDDED,
    task: "sentiment",
    name,
    pretrained,
    peft: method?.config ?? null,
    training: {
      steps,
      batchSize: BATCH,
      multiple: MULTIPLE,
      lr,
      seed,
      clipNorm: 1,
      optimiser: { weightDecay: 0.01, undrawn: "skip" as const },
    },
  };
}

async function scoreRoutes(
  gpu: Gpu,
  model: Parameters<typeof predictRoutes>[1],
  set: AdaptationSet,
  test: readonly Encoded[],
  labels: readonly number[],
  seed: number,
): Promise<NonNullable<DemoResult["routes"]>> {
  const router = uniformRouter(Stream.seed(seed).fold("evaluation"));
  const runs = await predictRoutes(gpu, model, set, test, { router, count: ROUTES });
  const accuracies = runs.map((logits) => scoreLogits(logits, labels).accuracy);
  return {
    random: accuracies.reduce((sum, x) => sum + x, 0) / ROUTES,
    ensemble: scoreEnsemble(runs, labels),
  };
}
