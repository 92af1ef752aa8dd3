export { adamixAdapter, adamixLora } from "./adamix.ts";
export {
  type Adaptable,
  type AdaptationOptions,
  type AdaptationPart,
  AdaptationSet,
  type MergeOptions,
} from "./adaptation-set.ts";
export { type AdapterConfig, adapter } from "./adapter.ts";
export { bitFit, full, head, type TopLayersConfig, topLayers } from "./base-training.ts";
export {
  type ConsistencyOptions,
  consistentLoss,
  distanceOfPasses,
  distanceOfTokens,
  type TwoPassLoss,
  taskLoss,
  twoPassLoss,
  type WeightSchedule,
  warmUpWeight,
} from "./consistency.ts";
export { type BankDiagnosis, diagnose } from "./diagnostics.ts";
export { type FoldedBase, foldIntoBase } from "./fold.ts";
export { type Ia3Config, ia3 } from "./ia3.ts";
export {
  type Choice,
  type Chosen,
  type LearnedRouter,
  LearnedRouting,
  routerFromConfig,
  softRouter,
  type TopKConfig,
  topKRouter,
} from "./learned-router.ts";
export { LinearBank } from "./linear-bank.ts";
export { type LoraConfig, lora } from "./lora.ts";
export { type LayerWeights, LearnedWeights, type MergeWeights, soupWeights } from "./merge-weights.ts";
export {
  type BaseParameter,
  expertsOf,
  type LinearWeights,
  matchSites,
  type PeftMethod,
  type RouteSource,
  type Share,
} from "./method.ts";
export { METHODS, methodFromConfig } from "./methods.ts";
export { ModuleMean } from "./module-mean.ts";
export { houlsby, pfeiffer } from "./placements.ts";
export { type PrefixConfig, prefix } from "./prefix.ts";
export { type PromptConfig, prompt } from "./prompt.ts";
export { type DrawOptions, RouteTable } from "./route-table.ts";
export {
  fixedRouter,
  type Granularity,
  givenRouter,
  type RouteRequest,
  type Router,
  recordedRouter,
  type Side,
  uniformRouter,
} from "./router.ts";
export type { Path, Routing } from "./routing.ts";
export { type UnipeltConfig, unipelt } from "./unipelt.ts";
