// Downloads of models from the Hugging Face hub. By hand, since no library resumes, checks hashes and stays silent.
import {
  env,
  exists,
  fileInfo,
  hashFile,
  joinPath,
  linkOrCopy,
  openPartial,
  removePath,
  renameFile,
  writeFileAtomic,
} from "../platform/index.ts";
import { FormatError } from "./format-error.ts";
import { hubCacheFolder, hubOffline, hubToken, RepoCache } from "./hub-cache.ts";
import { shardNames } from "./tensor-file.ts";

export interface HubOptions {
  /** Branch, tag or commit. Default "main". */
  readonly revision?: string;
  /** Default: the folder of Python's huggingface_hub. */
  readonly cacheFolder?: string;
  /** Default: HF_TOKEN, or what `huggingface-cli login` stored. */
  readonly token?: string | null;
  /** Default: HF_ENDPOINT, or https://huggingface.co. */
  readonly endpoint?: string;
  /** Takes what is in the cache and asks nothing of the network. Default: HF_HUB_OFFLINE. */
  readonly offline?: boolean;
  /** Tries of each file; a try goes on where the last one broke off. Default 5. */
  readonly tries?: number;
  /** Time without a byte after which a try is given up. Default 30,000 ms. */
  readonly stallMs?: number;
  readonly onProgress?: (progress: DownloadProgress) => void;
}

export interface DownloadProgress {
  readonly file: string;
  readonly bytes: number;
  readonly totalBytes: number;
}

type Settings = Required<HubOptions>;

/** A file of a repository as the hub describes it. */
interface RemoteFile {
  readonly name: string;
  readonly bytes: number;
  /** The name of its blob: sha256 of a large file, git's sha1 of a small one. */
  readonly hash: string;
  readonly kind: "sha256" | "git";
}

/** What a model is read from beside its weights. */
const SMALL_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "vocab.txt",
];

/**
 * Downloads a model's config, tokenizer and weights (safetensors, else PyTorch's) and gives the folder that holds them.
 * Which commit the revision is, is asked each time, as by Python's library; where the hub does not answer, the cache's is
 * taken. Files in the cache are not downloaded again; broken downloads go on where they stopped; a file gets its final name
 * when its size and hash are right.
 */
export async function downloadModel(repo: string, options: HubOptions = {}): Promise<string> {
  const settings = settingsOf(options);
  const cache = new RepoCache(settings.cacheFolder, repo);
  if (settings.offline) return cachedSnapshot(repo, cache, settings.revision);
  const described = await describe(repo, settings).catch((error: unknown) => {
    // As Python's library does: a hub that does not answer is no reason to do without what is here.
    if (error instanceof Unreachable && snapshotOf(cache, settings.revision)) return null;
    throw error;
  });
  if (!described) return cachedSnapshot(repo, cache, settings.revision);
  const { commit, files } = described;
  const folder = cache.snapshot(commit);
  const take = async (name: string): Promise<void> => {
    const file = files.get(name);
    if (!file) throw new FormatError(`hub: ${repo} has no ${name}`);
    const blob = cache.blob(file.hash);
    if (!exists(blob)) await fetchBlob(repo, commit, file, blob, settings);
    linkOrCopy(blob, joinPath(folder, name));
  };
  for (const name of SMALL_FILES) if (files.has(name)) await take(name);
  for (const name of weightsOf(repo, files)) {
    await take(name);
    if (name.endsWith(".index.json"))
      for (const shard of shardNames(joinPath(folder, name))) await take(shard);
  }
  if (commit !== settings.revision) writeFileAtomic(cache.ref(settings.revision), commit);
  return folder;
}

function settingsOf(options: HubOptions): Settings {
  const { revision = "main", tries = 5 } = options;
  if (!/^[\w./-]+$/.test(revision) || revision.includes(".."))
    throw new FormatError(`hub: "${revision}" is no branch, tag or commit`);
  if (!(Number.isInteger(tries) && tries > 0))
    throw new FormatError(`hub: ${tries} tries, expected 1 or more`);
  return {
    revision,
    tries,
    cacheFolder: options.cacheFolder ?? hubCacheFolder(),
    token: options.token === undefined ? hubToken() : options.token,
    endpoint: (options.endpoint ?? env("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, ""),
    offline: options.offline ?? hubOffline(),
    stallMs: options.stallMs ?? 30_000,
    onProgress: options.onProgress ?? (() => {}),
  };
}

/** The hub cannot be reached, or is out of order. */
class Unreachable extends FormatError {}

/** The folder of a revision that was downloaded before. */
function snapshotOf(cache: RepoCache, revision: string): string | null {
  const commit = cache.knownCommit(revision);
  const folder = commit && cache.snapshot(commit);
  return folder && exists(joinPath(folder, "config.json")) ? folder : null;
}

function cachedSnapshot(repo: string, cache: RepoCache, revision: string): string {
  const folder = snapshotOf(cache, revision);
  if (folder) return folder;
  throw new FormatError(
    `hub: ${repo} (${revision}) is not in the cache ${cache.folder}, and the network is not to be used; unset HF_HUB_OFFLINE, or name a folder`,
  );
}

/** Asks the hub which commit a revision is and what is in it. */
async function describe(
  repo: string,
  settings: Settings,
): Promise<{ commit: string; files: Map<string, RemoteFile> }> {
  const { endpoint, revision } = settings;
  const url = `${endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const response = await request(repo, url, settings, {});
  const body: unknown = await response.json().catch(() => null);
  const { sha, siblings } = (body ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha) || !Array.isArray(siblings))
    throw new FormatError(`hub: ${url} answered with what is no description of a model`);
  const files = new Map<string, RemoteFile>();
  for (const sibling of siblings) {
    const file = remoteFile(sibling);
    if (file) files.set(file.name, file);
  }
  return { commit: sha, files };
}

function remoteFile(sibling: unknown): RemoteFile | null {
  const { rfilename: name, size, blobId, lfs } = sibling as Record<string, unknown>;
  const large = lfs as { sha256?: unknown; size?: unknown } | undefined;
  const hash = large ? large.sha256 : blobId;
  const bytes = large ? large.size : size;
  // Plain names only: what a repository calls its files must not lead out of the cache.
  if (typeof name !== "string" || !/^[\w][\w.-]*$/.test(name)) return null;
  if (typeof hash !== "string" || !/^[0-9a-f]{40,64}$/.test(hash) || typeof bytes !== "number") return null;
  return { name, bytes, hash, kind: large ? "sha256" : "git" };
}

function weightsOf(repo: string, files: ReadonlyMap<string, RemoteFile>): string[] {
  const wanted = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
  ];
  const found = wanted.find((name) => files.has(name));
  if (!found) throw new FormatError(`hub: ${repo} has no weights that can be read (${wanted.join(", ")})`);
  return [found];
}

/** Downloads one file, with as many tries as are allowed, and checks it. */
async function fetchBlob(
  repo: string,
  commit: string,
  file: RemoteFile,
  blob: string,
  settings: Settings,
): Promise<void> {
  const partial = `${blob}.incomplete`;
  const url = `${settings.endpoint}/${repo}/resolve/${commit}/${file.name}`;
  let reason = "";
  for (let attempt = 0; attempt < settings.tries; attempt++) {
    if (attempt > 0) await pause(Math.min(2000, 100 * 2 ** attempt));
    try {
      await continueDownload(repo, url, file, partial, settings);
    } catch (error) {
      // What is wrong with this machine's files, a full disk above all, is wrong at the next try too.
      const isFinal = error instanceof FormatError || (error as Error).message.startsWith("files:");
      if (isFinal)
        throw error instanceof FormatError ? error : localFault(repo, file, partial, error as Error);
      reason =
        error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : "";
      continue;
    }
    const found = hashFile(partial, file.kind);
    if (found !== file.hash) {
      removePath(partial);
      throw new FormatError(
        `hub: ${file.name} of ${repo} arrived changed: ${file.kind} ${found}, expected ${file.hash}; it was removed, try again`,
      );
    }
    renameFile(partial, blob);
    return;
  }
  const have = fileInfo(partial)?.bytes ?? 0;
  throw new FormatError(
    `hub: ${file.name} of ${repo} broke off at ${have} of ${file.bytes} bytes, ${settings.tries} times (${reason}); run it again to go on from there`,
  );
}

function localFault(repo: string, file: RemoteFile, partial: string, cause: Error): FormatError {
  const missing = file.bytes - (exists(partial) ? (fileInfo(partial)?.bytes ?? 0) : 0);
  return new FormatError(
    `hub: ${file.name} of ${repo} takes ${missing} more bytes: ${cause.message}; make room, or name another cache with HF_HUB_CACHE, and run it again to go on from there`,
    { cause },
  );
}

async function continueDownload(
  repo: string,
  url: string,
  file: RemoteFile,
  path: string,
  settings: Settings,
): Promise<void> {
  const partial = openPartial(path);
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const watch = (): void => {
    clearTimeout(timer);
    const stalled = new Error(`no byte for ${settings.stallMs} ms`);
    timer = setTimeout(() => abort.abort(stalled), settings.stallMs);
  };
  try {
    if (partial.bytes > file.bytes) partial.clear();
    if (partial.bytes === file.bytes && file.bytes > 0) return;
    watch();
    const range: Record<string, string> = partial.bytes > 0 ? { Range: `bytes=${partial.bytes}-` } : {};
    const response = await request(repo, url, settings, range, abort.signal);
    const from = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
    // A server may ignore the range, or answer another one.
    if (response.status !== 206 || Number(from) !== partial.bytes) partial.clear();
    if (response.status === 206 && partial.bytes === 0 && Number(from) !== 0)
      throw new Error("another range came");
    for await (const chunk of response.body ?? []) {
      watch();
      if (partial.bytes + chunk.length > file.bytes)
        throw new FormatError(
          `hub: ${file.name} of ${repo} is longer than the ${file.bytes} bytes that were announced`,
        );
      partial.append(chunk);
      settings.onProgress({ file: file.name, bytes: partial.bytes, totalBytes: file.bytes });
    }
    if (partial.bytes < file.bytes) throw new Error("the connection ended early");
  } finally {
    clearTimeout(timer);
    partial.close();
  }
}

/** One request; a refusal becomes a FormatError that says what to do, trouble on the way an Error that is tried again. */
async function request(
  repo: string,
  url: string,
  { token }: Settings,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<Response> {
  // Fetch drops the authorization when a redirect leads to another host.
  const authorised = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  let response: Response;
  try {
    response = await fetch(url, { headers: authorised, ...(signal && { signal }) });
  } catch (cause) {
    if (signal) throw cause;
    const reason =
      cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
    throw new Unreachable(
      `hub: ${new URL(url).host} cannot be reached (${reason}), and ${repo} is not in the cache; look at the network, or name a folder`,
    );
  }
  const { status } = response;
  if (response.ok || (signal && status === 416)) return response;
  await response.body?.cancel();
  if (status === 401 || status === 403) {
    const how = token ? "the token does not open it" : "set HF_TOKEN";
    throw new FormatError(`hub: ${repo} is private, gated or not there (${status}): ${how}`);
  }
  if (status === 404) throw new FormatError(`hub: ${url} does not exist (404); is the name right?`);
  if (signal && (status === 429 || status >= 500)) throw new Error(`the hub answered ${status}`);
  if (status >= 500) throw new Unreachable(`hub: ${url} answered ${status}; try again later`);
  throw new FormatError(`hub: ${url} answered ${status}`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
