export { adaptersUsed, type FoundAdapter, findAdapter } from "./adapters.ts";
export { writeFileAtomic, writeFolderAtomic } from "./atomic.ts";
export { hashFile, linkOrCopy, openPartial, type PartialFile, renameFile } from "./downloads.ts";
export { type DebugLevel, debugLevel, env, markFailed, numberFromEnv } from "./env.ts";
export {
  appendLine,
  exists,
  fileInfo,
  listFolder,
  makeFolder,
  type OpenFile,
  openFile,
  readBytes,
  readText,
  removePath,
} from "./files.ts";
export { howToInstall } from "./install-help.ts";
export { type PaperDevice, paperDevice } from "./paper-device.ts";
export {
  absolutePath,
  assetPath,
  baseName,
  homeFolder,
  joinPath,
  packageRoot,
  parentFolder,
  temporaryFolder,
} from "./paths.ts";
export { shaderNames, shaderText } from "./shaders.ts";
export { settle } from "./wait.ts";
