export { FormatError } from "./format-error.ts";
export { type DownloadProgress, downloadModel, type HubOptions } from "./hub.ts";
export { hubCacheFolder, isRepoName } from "./hub-cache.ts";
export { loadParameters, saveParameters } from "./parameter-file.ts";
export { readPytorch } from "./pytorch.ts";
export {
  type ByteSource,
  decodeSafetensors,
  encodeSafetensors,
  type RawTensor,
  readSafetensors,
  type Safetensors,
  type TensorToWrite,
} from "./safetensors.ts";
export { type SaveTensorsOptions, saveTensors } from "./save-tensors.ts";
export {
  type LoadOptions,
  loadStateDict,
  readStateDict,
  type StreamOptions,
  streamStateDict,
} from "./state-dict.ts";
export { openTensorFile, openWeights, type TensorFile, WEIGHT_FILES } from "./tensor-file.ts";
export { toFloat32, toHalfBits, toInt32 } from "./tensor-values.ts";
