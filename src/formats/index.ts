export {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  type AdapterConfigFile,
  type AdapterFile,
  adapterFiles,
  expertsIn,
  type ModelTraits,
  mergedFile,
  type Provenance,
  readAdapterConfig,
  readAdapterFile,
} from "./adapter-file.ts";
export {
  ADAPTER_FORMATS,
  type AdapterFormatName,
  detectFormat,
  type ExportOptions,
  exportAdapter,
  type ImportOptions,
  importAdapter,
  readForeign,
  type WrittenFile,
} from "./convert.ts";
export type { AdapterFormat, ExportSettings, FolderFiles, ImportSettings } from "./format.ts";
export { asRaw, elementsOf, type HostTensor, type HostTensors } from "./host-tensor.ts";
export { traitsOfBase, traitsOfConfig } from "./model-names.ts";
export { packageVersion } from "./notes.ts";
export { HEAD } from "./sites.ts";
export { stackAdapters, type TaskStack } from "./stack-adapters.ts";
