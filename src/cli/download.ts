import { Presets, SingleBar } from "cli-progress";
import {
  type DownloadProgress,
  downloadModel,
  FormatError,
  type HubOptions,
  isRepoName,
} from "../io/index.ts";
import { openModelFolder } from "../train/index.ts";
import { UsageError } from "./failure.ts";
import { print } from "./report.ts";

export interface DownloadCommand {
  readonly repo: string;
  /** Branch, tag or commit. */
  readonly revision: string | undefined;
}

/** Downloads a model into the cache that Python shares, and says where it lies and whether it can be opened. */
export async function download({ repo, revision }: DownloadCommand): Promise<void> {
  if (!isRepoName(repo))
    throw new UsageError(`download: "${repo}" is no name of a repository; expected ORG/NAME`);
  const progress = downloadProgress();
  const hub: HubOptions = { ...(revision !== undefined && { revision }), onProgress: progress.update };
  const folder = await downloadModel(repo, hub).finally(progress.stop);
  print(`${repo} is in ${folder}`);
  try {
    const { family, json } = await openModelFolder(folder);
    print(`${family.modelType}, ${String(json.architectures ?? "no architecture named")}`);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    print(`it is there, but it cannot be opened: ${error.message}`);
  }
}

export interface BytesProgress {
  readonly update: (progress: DownloadProgress) => void;
  readonly stop: () => void;
}

/** Progress in megabytes: a bar on a terminal, elsewhere a line for each file and each quarter of a large one. */
export function downloadProgress(): BytesProgress {
  return process.stdout.isTTY && process.stderr.isTTY ? bar() : lines();
}

const MEGABYTE = 1e6;
/** Files below this size are over before a line is read. */
const LARGE_BYTES = 5 * MEGABYTE;

const megabytes = (bytes: number): string => (bytes / MEGABYTE).toFixed(1);

function lines(): BytesProgress {
  let file = "";
  let quarter = 0;
  return {
    update(progress) {
      if (progress.file !== file) quarter = 0;
      file = progress.file;
      const share = Math.floor((4 * progress.bytes) / progress.totalBytes);
      if (progress.totalBytes < LARGE_BYTES ? share < 4 : share <= quarter) return;
      quarter = share;
      print(`${file}  ${megabytes(progress.bytes)} of ${megabytes(progress.totalBytes)} MB`);
    },
    stop() {},
  };
}

function bar(): BytesProgress {
  const format = "{bar} {file}  {done} of {all} MB";
  let own: SingleBar | null = null;
  let file = "";
  return {
    update(progress) {
      const shown = {
        file: progress.file,
        done: megabytes(progress.bytes),
        all: megabytes(progress.totalBytes),
      };
      if (progress.file !== file) {
        own?.stop();
        file = progress.file;
        own = new SingleBar({ format, clearOnComplete: true, barsize: 24, fps: 5 }, Presets.shades_classic);
        own.start(progress.totalBytes, progress.bytes, shown);
      }
      own?.update(progress.bytes, shown);
    },
    stop() {
      own?.stop();
      own = null;
    },
  };
}
