export { FormatError } from "./format-error.ts";
export {
  decodeSafetensors,
  encodeSafetensors,
  type RawTensor,
  type Safetensors,
  type TensorToWrite,
  toFloat32,
  toInt32,
} from "./safetensors.ts";
export { type LoadOptions, loadStateDict, readStateDict } from "./state-dict.ts";
