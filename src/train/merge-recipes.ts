import type { Gpu } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { CausalLM, SequenceClassifier } from "../models/index.ts";
import type { Module } from "../nn/index.ts";
import { type AdaptationSet, LearnedWeights, type MergeWeights, soupWeights } from "../peft/index.ts";
import { classifierTask, type FineTuneOptions } from "./fine-tune.ts";
import { completionTask, type FineTuneCausalOptions } from "./fine-tune-causal.ts";
import type { MergedView } from "./merged.ts";
import { type TrainingOptions, type TrainingTask, trainingLoop } from "./training-loop.ts";

/** Merges beyond the uniform mean: weights that are learned, and a soup of the experts that help. */

interface SearchOptions extends Pick<TrainingOptions, "batchSize" | "seed" | "onStep"> {
  /** Default 100. */
  readonly steps?: number;
  /** Peak learning rate of the logits of the weights. Default 0.05. */
  readonly lr?: number;
}

export interface LearnMergeOptions extends SearchOptions, Pick<FineTuneOptions, "train" | "multiple"> {}

/**
 * Weights α = softmax(s) of the experts of each layer and side, by gradient descent on the loss of `train` of the merged
 * model; s starts at 0, the uniform mean. Experts, head and base stay as they are. The result is for
 * `mergeExperts(model, stream, { weights })`, or for a MergedView. Paper: section 3.3 has the uniform mean.
 */
export function learnMerge(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet,
  options: LearnMergeOptions,
): Promise<MergeWeights> {
  const task = (parameters: readonly Parameter[]) => classifierTask(gpu, model, parameters, options);
  return learnWeights(gpu, model, set, task, options);
}

export interface LearnMergeCausalOptions
  extends SearchOptions,
    Pick<FineTuneCausalOptions, "train" | "multiple" | "placesMultiple"> {}

/** The same of a causal language model, on completions. */
export function learnMergeCausal(
  gpu: Gpu,
  model: CausalLM,
  set: AdaptationSet,
  options: LearnMergeCausalOptions,
): Promise<MergeWeights> {
  const task = (parameters: readonly Parameter[]) => completionTask(gpu, model, parameters, options);
  return learnWeights(gpu, model, set, task, options);
}

async function learnWeights(
  gpu: Gpu,
  model: Module,
  set: AdaptationSet,
  taskOf: (parameters: readonly Parameter[]) => TrainingTask,
  { steps = 100, lr = 0.05, ...options }: SearchOptions,
): Promise<MergeWeights> {
  expectMixture("learnMerge", set);
  const weights = new LearnedWeights(gpu, set.routes.layers, set.method.experts);
  const held = [...model.parameters(), ...set.parameters()].filter(({ requiresGrad }) => requiresGrad);
  const { routing } = set;
  for (const parameter of held) parameter.requiresGrad = false;
  set.routing = weights;
  try {
    const task = taskOf(weights.parameters());
    const { optimiser } = await trainingLoop(gpu, task, null, { ...options, steps, lr });
    const learned = await weights.read();
    optimiser.dispose();
    return learned;
  } finally {
    set.routing = routing;
    for (const parameter of held) parameter.requiresGrad = true;
    weights.dispose();
  }
}

export interface Soup {
  readonly weights: MergeWeights;
  /** The experts in it, in the order in which they were added. */
  readonly members: readonly number[];
  /** Of each expert alone. */
  readonly alone: readonly number[];
  readonly score: number;
}

/**
 * Greedy soup (Wortsman et al. 2022): experts, the best one first, join a uniform mean as long as the score does not
 * fall. Expert m is the m-th of every layer and side. `score` sees the merged model; the higher the better: give it
 * the dev set. The view goes on with the soup.
 */
export async function greedySoup(view: MergedView, score: () => Promise<number>): Promise<Soup> {
  const set = view.mixture;
  if (!set) throw new ShapeError("greedySoup: nothing is attached; it is for mixtures");
  expectMixture("greedySoup", set);
  const { experts } = set.method;
  const scoreOf = async (members: readonly number[]): Promise<number> => {
    view.weights = soupWeights(set.routes.layers, experts, members);
    return view.use(score);
  };
  const alone: number[] = [];
  for (let m = 0; m < Math.max(experts.down, experts.up); m++) alone.push(await scoreOf([m]));
  const order = [...alone.keys()].sort((a, b) => (alone[b] ?? 0) - (alone[a] ?? 0) || a - b);
  const members: number[] = [];
  let best = Number.NEGATIVE_INFINITY;
  for (const m of order) {
    const reached = members.length === 0 ? (alone[m] as number) : await scoreOf([...members, m]);
    if (reached < best) continue;
    best = reached;
    members.push(m);
  }
  const weights = soupWeights(set.routes.layers, experts, members);
  view.weights = weights;
  return { weights, members, alone, score: best };
}

function expectMixture(what: string, set: AdaptationSet): void {
  if (set.isMixture) return;
  const why = set.learned
    ? `the "${set.learned.router.name}" router weighs experts for every token, which no mean of them does`
    : `${set.method.name} has one expert on each side`;
  throw new ShapeError(`${what}: set "${set.name}" cannot be merged: ${why}`);
}
