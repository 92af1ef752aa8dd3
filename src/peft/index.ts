export { adamixAdapter, adamixLora } from "./adamix.ts";
export { type Adaptable, AdaptationSet } from "./adaptation-set.ts";
export { type AdapterConfig, adapter } from "./adapter.ts";
export { type ConsistencyOptions, type TwoPassLoss, taskLoss, twoPassLoss } from "./consistency.ts";
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
export {
  fixedRouter,
  givenRouter,
  type RouteRequest,
  type Router,
  RouteTable,
  type Side,
  uniformRouter,
} from "./router.ts";
