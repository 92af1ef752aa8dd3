export type { Activation } from "../ops/index.ts";
export { activate, expectActivation } from "./activation.ts";
export { EmbeddedSite, type VirtualTokens } from "./embedded-site.ts";
export { positionsInFront, sameIn, seenInFront } from "./in-front.ts";
export { initBertWeights, initNormal, initUniform } from "./init.ts";
export { type KeysValues, type KeysValuesAdaptation, KeysValuesSite } from "./keys-values-site.ts";
export {
  Embedding,
  type ForwardOptions,
  LayerNorm,
  Linear,
  maybeDropout,
  RmsNorm,
  throughLayer,
} from "./layers.ts";
export {
  type AdaptableLinear,
  type InputAdaptation,
  type LinearAdaptation,
  LinearSite,
  type LinearSlice,
} from "./linear-site.ts";
export { countParameters, Module } from "./module.ts";
export { type Normalisation, type OutputAdaptation, OutputSite, type SublayerOutput } from "./output-site.ts";
export type { Site } from "./site.ts";
export type { SitePlace, SiteRole } from "./site-base.ts";
