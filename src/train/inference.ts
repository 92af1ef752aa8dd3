import type { Gpu } from "../array/index.ts";
import type { Stream } from "../autograd/index.ts";
import type { Batch, Encoded } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import {
  type AdaptationSet,
  fixedRouter,
  givenRouter,
  ModuleMean,
  type Router,
  uniformRouter,
} from "../peft/index.ts";
import { MergedView } from "./merged.ts";
import { type PredictOptions, predict } from "./predict.ts";

/** How a mixture answers. Paper: section 3.5. */
export const INFERENCE_MODES = [
  "merged",
  "random",
  "random-token",
  "fixed",
  "ensemble",
  "module-mean",
] as const;
/**
 * merged: the mean of the experts, one forward pass (default). random, random-token: routes drawn for each example, or
 * for each token. fixed: the first experts. ensemble: the mean of the logits over routes, each for all examples.
 * module-mean: in each layer the mean of the outputs of all its modules.
 */
export type InferenceMode = (typeof INFERENCE_MODES)[number];

export interface InferOptions extends Omit<PredictOptions, "beforeBatch"> {
  readonly mode?: InferenceMode;
  /** Runs of random and random-token (default 1), routes of an ensemble (default 4); "all": every route there is. */
  readonly routes?: number | "all";
  /** Draws routes, by the number of the example and the token: the same in whatever batches. */
  readonly stream: Stream;
}

export interface Inference {
  /** The mean over runs, [examples, classes]. */
  readonly logits: Float32Array;
  /** The logits of each run: of each route of an ensemble. */
  readonly runs: readonly Float32Array[];
}

/** Routes that "all" may mean at most. */
const MOST_ROUTES = 256;

/** Logits of every example by one of the modes. Without a mixture only "merged" means anything: the model as it is. */
export async function infer(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet | null,
  examples: readonly Encoded[],
  { mode = "merged", routes, stream, ...options }: InferOptions,
): Promise<Inference> {
  if (!INFERENCE_MODES.includes(mode))
    throw new ShapeError(`infer: mode "${mode}", expected one of ${INFERENCE_MODES.join(", ")}`);
  if (!set?.isMixture) {
    if (mode === "merged") return meanOf([await predict(gpu, model, examples, options)]);
    throw new ShapeError(`infer: mode ${mode} is for mixtures of drawn experts; use merged`);
  }
  const run = (draw: (batch: Batch) => void): Promise<Float32Array> =>
    predict(gpu, model, examples, { ...options, beforeBatch: (_, batch) => draw(batch) });
  switch (mode) {
    case "merged":
      return meanOf([await runMerged(model, set, () => predict(gpu, model, examples, options))]);
    case "module-mean":
      return meanOf([await runModuleMean(gpu, set, () => predict(gpu, model, examples, options))]);
    case "fixed":
      return meanOf([await run(() => set.routes.draw(fixedRouter(0), { step: 0, passes: 1 }))]);
    case "random":
    case "random-token": {
      const router = uniformRouter(stream);
      const runs: Float32Array[] = [];
      for (let pass = 0; pass < countOf(routes, 1, mode); pass++)
        runs.push(await run((batch) => drawFiner(set, router, pass, batch, mode === "random-token")));
      return meanOf(runs);
    }
    case "ensemble": {
      const runs: Float32Array[] = [];
      for (const [router, pass] of routersOf(set, stream, routes))
        runs.push(await run(() => set.routes.draw(router, { step: 0, passes: 1, firstPass: pass })));
      return meanOf(runs);
    }
    default:
      return mode satisfies never;
  }
}

/** A draw for each example of a batch, by its number among all examples, or for each of its tokens. */
function drawFiner(set: AdaptationSet, router: Router, pass: number, batch: Batch, perToken: boolean): void {
  const byExample: Router = (request) =>
    router({ ...request, group: batch.indices[request.group] as number });
  const tokens = perToken ? batch.length : 1;
  set.routes.draw(byExample, { step: 0, passes: 1, firstPass: pass, groups: batch.size, tokens });
}

/** The router of each route of an ensemble, and the pass that it draws as. */
function routersOf(
  set: AdaptationSet,
  stream: Stream,
  routes: number | "all" | undefined,
): readonly (readonly [Router, number])[] {
  if (routes === "all") return allRoutes(set).map((route) => [givenRouter([route]), 0] as const);
  const router = uniformRouter(stream);
  return Array.from({ length: countOf(routes, 4, "ensemble") }, (_, pass) => [router, pass] as const);
}

/** Every way to choose one expert on each side of every layer: [route][layer] = [down, up]. */
export function allRoutes(set: AdaptationSet): (readonly [down: number, up: number])[][] {
  const { experts } = set.method;
  const { layers } = set.routes;
  const pairs = experts.down * experts.up;
  const count = pairs ** layers.length;
  if (count > MOST_ROUTES)
    throw new ShapeError(
      `infer: ${pairs} pairs of experts in ${layers.length} layers make ${count} routes, more than ${MOST_ROUTES}; give a number of routes to draw`,
    );
  return Array.from({ length: count }, (_, number) => {
    const route: (readonly [number, number])[] = [];
    // The digits of the number in base `pairs`; layers are found by their number.
    for (const [i, layer] of layers.entries()) {
      const pair = Math.floor(number / pairs ** i) % pairs;
      route[layer] = [Math.floor(pair / experts.up), pair % experts.up];
    }
    return route;
  });
}

async function runMerged<T>(
  model: SequenceClassifier,
  set: AdaptationSet,
  action: () => Promise<T>,
): Promise<T> {
  const view = new MergedView(model, set);
  try {
    return await view.use(action);
  } finally {
    view.dispose();
  }
}

async function runModuleMean<T>(gpu: Gpu, set: AdaptationSet, action: () => Promise<T>): Promise<T> {
  const before = set.routing;
  const mean = new ModuleMean(gpu, set.method.experts);
  set.routing = mean;
  try {
    return await action();
  } finally {
    set.routing = before;
    mean.dispose();
  }
}

function countOf(routes: number | "all" | undefined, usual: number, mode: InferenceMode): number {
  const count = routes ?? usual;
  if (typeof count === "number" && Number.isInteger(count) && count >= 1) return count;
  throw new ShapeError(`infer: ${count} routes for mode ${mode}, expected a whole number of 1 or more`);
}

function meanOf(runs: readonly Float32Array[]): Inference {
  const logits = new Float32Array(runs[0]?.length ?? 0);
  for (let i = 0; i < logits.length; i++) {
    let sum = 0;
    for (const run of runs) sum += run[i] as number;
    logits[i] = sum / runs.length;
  }
  return { logits, runs };
}
