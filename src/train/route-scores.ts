import type { Gpu } from "../array/index.ts";
import type { Encoded } from "../data/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import { type AdaptationSet, givenRouter } from "../peft/index.ts";
import { allRoutes } from "./inference.ts";
import { type PredictOptions, predict } from "./predict.ts";
import { scoreTask, type TaskMetrics, type TaskScores } from "./task-scores.ts";

/** One way through the experts, and what the model is like on it. */
export interface RouteScore {
  /** [down, up] of each layer that has experts. */
  readonly route: readonly (readonly [down: number, up: number])[];
  readonly scores: TaskScores;
}

/** Scores of every single route (default: accuracy and nll), where there are few (see allRoutes): one pass over the examples for each. */
export async function routeScores(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet,
  examples: readonly Encoded[],
  {
    metrics = { metrics: ["accuracy"], regression: false },
    ...options
  }: Omit<PredictOptions, "beforeBatch"> & { readonly metrics?: TaskMetrics } = {},
): Promise<RouteScore[]> {
  const labels = examples.map(({ label }) => label ?? Number.NaN);
  const result: RouteScore[] = [];
  for (const route of allRoutes(set)) {
    set.routes.draw(givenRouter([route]), { step: 0, passes: 1 });
    const logits = await predict(gpu, model, examples, options);
    const own = set.routes.layers.map((layer) => route[layer] as readonly [number, number]); // allRoutes has all
    result.push({ route: own, scores: scoreTask(metrics, [logits], labels) });
  }
  return result;
}
