import { howToInstall } from "./install-help.ts";

const KEY = Symbol.for("adamix.gpu");

/**
 * Opens Dawn with its flags, once per set of flags, and keeps the object for the life of the process: when
 * it is collected, the process crashes or hangs. A module-level `const` is not enough.
 */
export async function openDawn(flags: readonly string[], label = ""): Promise<GPU> {
  const pinned = pinnedObjects();
  const key = `${label}|${flags.join("|")}`;
  const known = pinned.get(key);
  if (known) return known;
  const gpu = (await loadDawn()).create([...flags]);
  pinned.set(key, gpu);
  return gpu;
}

function pinnedObjects(): Map<string, GPU> {
  const holder = globalThis as { [KEY]?: Map<string, GPU> }; // a symbol's property has no declared type
  holder[KEY] ??= new Map();
  return holder[KEY];
}

async function loadDawn(): Promise<typeof import("webgpu")> {
  try {
    return await import("webgpu");
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    const what = `the npm package webgpu does not load on ${process.platform} ${process.arch}: ${reason}`;
    throw new Error([`adapters: ${what}`, ...howToInstall()].join("\n  "), { cause });
  }
}

/** The names of all adapters that Dawn sees: it lists them when asked for one that does not exist. */
export async function listAdapterNames(flags: readonly string[], label = ""): Promise<string[]> {
  const gpu = await openDawn([...flags, "adapter=\u0001"], label);
  try {
    await gpu.requestAdapter();
    return [];
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return [...text.matchAll(/^ \* backend: '[^']*', name: '(.*)'$/gm)].map((match) => match[1] ?? "");
  }
}

/** Silences a driver of Mesa's that complains on stderr where the variable is unset. */
export async function quietMesa(): Promise<void> {
  if (process.platform !== "linux" || process.env.XDG_RUNTIME_DIR) return;
  const { tmpdir } = await import("node:os");
  process.env.XDG_RUNTIME_DIR = tmpdir();
}
