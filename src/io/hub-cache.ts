// The cache of Python's huggingface_hub, so that both share what they download:
// models--ORG--NAME/{refs/REVISION, blobs/HASH, snapshots/COMMIT/FILE -> ../../blobs/HASH}.
import { env, exists, homeFolder, joinPath, readText } from "../platform/index.ts";
import { FormatError } from "./format-error.ts";

/** The folder of all repositories: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub. */
export function hubCacheFolder(): string {
  return env("HF_HUB_CACHE") ?? env("HUGGINGFACE_HUB_CACHE") ?? joinPath(hubHome(), "hub");
}

function hubHome(): string {
  const home = env("HF_HOME");
  return home ?? joinPath(env("XDG_CACHE_HOME") ?? joinPath(homeFolder(), ".cache"), "huggingface");
}

/** The access token: HF_TOKEN, or the file that `huggingface-cli login` wrote. */
export function hubToken(): string | null {
  const given = env("HF_TOKEN") ?? env("HUGGING_FACE_HUB_TOKEN");
  if (given) return given.trim();
  const path = env("HF_TOKEN_PATH") ?? joinPath(hubHome(), "token");
  const text = exists(path) ? readText(path).trim() : "";
  return text === "" ? null : text;
}

/** HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: nothing is asked of the network. */
export function hubOffline(): boolean {
  return ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].some((name) =>
    ["1", "true", "yes", "on"].includes((env(name) ?? "").toLowerCase()),
  );
}

/** Whether a text can be the name of a repository, "NAME" or "ORG/NAME", rather than a path. */
export function isRepoName(text: string): boolean {
  const part = "[A-Za-z0-9][A-Za-z0-9._-]*";
  return new RegExp(`^${part}(/${part})?$`).test(text) && !text.includes("..") && !text.includes("--");
}

/** The folders of one repository. */
export class RepoCache {
  readonly folder: string;

  constructor(cacheFolder: string, repo: string) {
    if (!isRepoName(repo)) throw new FormatError(`hub: "${repo}" is no name of a repository (ORG/NAME)`);
    this.folder = joinPath(cacheFolder, `models--${repo.replace("/", "--")}`);
  }

  blob(hash: string): string {
    return joinPath(this.folder, "blobs", hash);
  }

  ref(revision: string): string {
    return joinPath(this.folder, "refs", revision);
  }

  snapshot(commit: string): string {
    return joinPath(this.folder, "snapshots", commit);
  }

  /** The commit that a branch or tag stood at when it was last looked up; a commit is itself. */
  knownCommit(revision: string): string | null {
    if (/^[0-9a-f]{40}$/.test(revision)) return revision;
    return exists(this.ref(revision)) ? readText(this.ref(revision)).trim() : null;
  }
}
