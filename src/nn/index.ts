export { initBertWeights, initNormal, initUniform } from "./init.ts";
export { Embedding, type ForwardOptions, LayerNorm, Linear, maybeDropout, RmsNorm } from "./layers.ts";
export { countParameters, Module } from "./module.ts";
export {
  type LinearAdaptation,
  LinearSite,
  type LinearSizes,
  type Normalisation,
  type OutputAdaptation,
  OutputSite,
  type Site,
  type SublayerOutput,
} from "./site.ts";
