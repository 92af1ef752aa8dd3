// What a method costs on a model of any size: counted from the objects that would be trained, and from a step of
// training that is recorded on a device of paper. Nothing is allocated, so RoBERTa-large takes a second.
import { Gpu, type HalfType } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import { Device, memory, resetPeakMemory } from "../gpu/index.ts";
import { type CausalLM, modelFamily, modelHead, type SequenceClassifier } from "../models/index.ts";
import { countParameters } from "../nn/index.ts";
import { AdaptationSet, type PeftMethod } from "../peft/index.ts";
import { fineTune } from "./fine-tune.ts";
import { fineTuneCausal } from "./fine-tune-causal.ts";

export interface CostOptions {
  /** Classes of a classification head. Default 2. */
  readonly labels?: number;
  /** Examples of a step. Default 16. */
  readonly batchSize?: number;
  /** Tokens of each. Default 128. */
  readonly length?: number;
  /** How the frozen matrices are stored. Default f32. */
  readonly dtype?: "f32" | HalfType;
}

export interface MethodCost {
  readonly parameters: {
    /** Trained beside the head. */
    readonly training: number;
    /** What is left of them once experts are merged. */
    readonly merged: number;
    /** A classification head; 0 for a language model. */
    readonly head: number;
    /** The model without head and adaptation. */
    readonly base: number;
  };
  /** What a saved adapter takes, merged and without the head. */
  readonly mergedBytes: { readonly f32: number; readonly f16: number };
  /** One step of training, a mixture's two passes included. */
  readonly step: {
    /** Of all matrix products and attention, forward and backward. */
    readonly flops: number;
    /** The model as it is stored. */
    readonly baseBytes: number;
    /** Most memory at one time, the model included, in whole buffers of the pool. */
    readonly peakBytes: number;
  };
}

type Model = SequenceClassifier | CausalLM;

/** A model with a method's set on a device of paper. */
interface OnPaper {
  readonly gpu: Gpu;
  readonly model: Model;
  readonly set: AdaptationSet | null;
}

/**
 * Counts a method on a model of a config.json: encoders with a classification head, decoders as language models.
 * `method` null: the head alone.
 */
export function parametersOf(
  config: Readonly<Record<string, unknown>>,
  method: PeftMethod | null,
  options: CostOptions = {},
): MethodCost["parameters"] {
  return counted(onPaper(config, method, options));
}

/**
 * parametersOf, the bytes of what is saved, and what a step of fineTune takes, or of fineTuneCausal with half of each text
 * as its completion: both passes of a mixture, AdamW, on kernels for GPUs.
 */
export async function costOf(
  config: Readonly<Record<string, unknown>>,
  method: PeftMethod | null,
  options: CostOptions = {},
): Promise<MethodCost> {
  const paper = onPaper(config, method, options);
  const parameters = counted(paper);
  return {
    parameters,
    mergedBytes: { f32: 4 * parameters.merged, f16: 2 * parameters.merged },
    step: await costOfStep(paper.gpu, paper.model, paper.set, options),
  };
}

function onPaper(
  config: Readonly<Record<string, unknown>>,
  method: PeftMethod | null,
  { labels = 2, dtype = "f32" }: CostOptions,
): OnPaper {
  const gpu = new Gpu(Device.onPaper());
  const model = buildOnPaper(gpu, config, labels);
  model.setRequiresGrad(false);
  if ("head" in model) model.head.setRequiresGrad(true);
  const set = method && new AdaptationSet(gpu, model, method, { stream: Stream.seed(0) });
  model.to(dtype); // what the method trains of the model stays f32
  return { gpu, model, set };
}

function counted({ model, set }: OnPaper): MethodCost["parameters"] {
  const merged = set?.isMixture ? set.mergeExperts(model, Stream.seed(0)) : set;
  const own = "head" in model ? model.encoder.parameters() : model.parameters();
  const unfrozen = countParameters(own.filter(({ requiresGrad }) => requiresGrad));
  const counts = {
    training: unfrozen + countParameters(set?.parameters() ?? []),
    merged: unfrozen + countParameters(merged?.parameters() ?? []),
    head: countParameters("head" in model ? model.head.parameters() : []),
    base: countParameters(own),
  };
  if (merged !== set) merged?.dispose();
  return counts;
}

function buildOnPaper(gpu: Gpu, config: Readonly<Record<string, unknown>>, labels: number): Model {
  const family = modelFamily(config);
  const parsed = family.parseConfig(config, { num_labels: labels });
  const task = family.heads["sequence-classification"] ? "sequence-classification" : "causal-lm";
  return modelHead(family, task).make(gpu, parsed);
}

/** Steps that settle buffers and moments before the one that counts. */
const BEFORE = 2;

/** What a step of training takes on a device, of paper or not, that nothing else uses meanwhile. */
export async function costOfStep(
  gpu: Gpu,
  model: Model,
  set: AdaptationSet | null,
  { batchSize = 16, length = 128 }: CostOptions,
): Promise<MethodCost["step"]> {
  let flops = 0;
  const onlooker = {
    onRecorded: ({ work }: { readonly work: { readonly flops?: number } | undefined }): void => {
      flops += work?.flops ?? 0;
    },
  };
  const beforeStep = async (): Promise<void> => {
    await gpu.device.recorder.throttle();
    flops = 0;
    resetPeakMemory(gpu);
  };
  await gpu.device.watch.add(onlooker);
  const ids = new Int32Array(length).fill(3); // padding in no family
  const options = {
    steps: BEFORE + 1,
    batchSize,
    lr: 1e-3,
    seed: 0,
    capture: false,
    multiple: 1,
    beforeStep,
  };
  const examples = <T>(one: T): T[] => Array.from({ length: batchSize }, () => one);
  if ("head" in model) await fineTune(gpu, model, set, { train: examples({ ids, label: 0 }), ...options });
  else {
    const start = Math.ceil(length / 2);
    await fineTuneCausal(gpu, model, set, { train: examples({ ids, start }), placesMultiple: 1, ...options });
  }
  const { peakBytes } = memory(gpu);
  await gpu.device.watch.remove(onlooker);
  const baseBytes = model.parameters().reduce((sum, { array }) => sum + array.bytes, 0);
  return { flops, baseBytes, peakBytes };
}
