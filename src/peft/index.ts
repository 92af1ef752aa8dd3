export { adamixAdapter, adamixLora } from "./adamix.ts";
export { type Adaptable, type AdaptationPart, AdaptationSet } from "./adaptation-set.ts";
export { type AdapterConfig, adapter } from "./adapter.ts";
export { bitFit, full, head, type TopLayersConfig, topLayers } from "./base-training.ts";
export { type ConsistencyOptions, type TwoPassLoss, taskLoss, twoPassLoss } from "./consistency.ts";
export { type FoldedBase, foldIntoBase } from "./fold.ts";
export { type Ia3Config, ia3 } from "./ia3.ts";
export { LinearBank } from "./linear-bank.ts";
export { type LoraConfig, lora } from "./lora.ts";
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
export { houlsby, pfeiffer } from "./placements.ts";
export { type PrefixConfig, prefix } from "./prefix.ts";
export { type PromptConfig, prompt } from "./prompt.ts";
export {
  fixedRouter,
  givenRouter,
  type RouteRequest,
  type Router,
  RouteTable,
  type Side,
  uniformRouter,
} from "./router.ts";
export { type UnipeltConfig, unipelt } from "./unipelt.ts";
