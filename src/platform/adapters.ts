import { listAdapterNames, openDawn, quietMesa } from "./dawn.ts";
import { env } from "./env.ts";
import { hardwareHelp, howToInstall } from "./install-help.ts";
import { openSwiftShader } from "./swiftshader.ts";
import { loaderIsInstalled } from "./vulkan-loader.ts";

export interface FoundAdapter {
  readonly gpu: GPU;
  /** Gives one device; ask for another adapter to open a second. */
  readonly adapter: GPUAdapter;
  readonly kind: "hardware" | "software";
  /** Short and lower case: "nvidia h200", "lavapipe", "swiftshader". */
  readonly name: string;
  /** One line: how it was found. */
  readonly how: string;
}

const FLAGS = [
  // Dawn rounds timestamps to 65 µs, for browsers' sake: longer than most kernels take.
  "disable-dawn-features=timestamp_quantization",
  // Shows the matrices of subgroups to those who ask for the feature; nothing else changes.
  "enable-dawn-features=allow_unsafe_apis",
];

type Accept = (found: FoundAdapter) => boolean;

const used = new Map<string, FoundAdapter>();

/**
 * Finds a WebGPU adapter. `choice`: `auto` (hardware, else the system's software driver, else the embedded
 * SwiftShader), `gpu` (hardware only), `software`, `lavapipe`, `swiftshader`, or a part of an adapter's name.
 * Default: ADAMIX_DEVICE, else `auto`.
 */
export async function findAdapter(choice?: string): Promise<FoundAdapter> {
  const wanted = (choice ?? env("ADAMIX_DEVICE") ?? "auto").toLowerCase();
  await quietMesa();
  const found = await search(wanted, FLAGS);
  used.set(found.name, found);
  return found;
}

/** The adapters that this process has been given so far, one of each name. */
export function adaptersUsed(): FoundAdapter[] {
  return [...used.values()];
}

async function search(wanted: string, flags: readonly string[]): Promise<FoundAdapter> {
  if (wanted === "swiftshader") return embedded(flags);
  const ofSystem = await systemAdapters(flags, wanted);
  const first = ofSystem.accepted[0];
  if (first) return first;
  if (wanted !== "auto" && wanted !== "software") throw notFound(wanted, ofSystem.seen);
  return embedded(flags);
}

function acceptOf(wanted: string): Accept {
  switch (wanted) {
    case "auto":
      return () => true;
    case "gpu":
    case "hardware":
      return (found) => found.kind === "hardware";
    case "software":
      return (found) => found.kind === "software";
    default:
      return (found) => words(found).includes(wanted);
  }
}

/**
 * What the system offers: all of `seen` by name, and those accepted, hardware first. Dawn is opened no more often than
 * that takes: each time it looks for adapters again, and warns on stderr of what it finds.
 */
async function systemAdapters(
  flags: readonly string[],
  wanted: string,
): Promise<{ readonly accepted: readonly FoundAdapter[]; readonly seen: readonly string[] }> {
  if (!loaderIsInstalled()) return { accepted: [], seen: [] };
  const accept = acceptOf(wanted);
  const preferred = await request(flags, "the system's preferred adapter");
  if (!preferred) return { accepted: [], seen: [] };
  // There may be hardware behind a software driver that is preferred.
  const mayBeBetter = wanted === "auto" && preferred.kind === "software";
  if (!mayBeBetter && accept(preferred)) return { accepted: [preferred], seen: [preferred.name] };
  const all = [preferred];
  const names = new Set(await listAdapterNames(flags));
  for (const name of names.size > 1 ? names : []) {
    const found = await request([...flags, `adapter=${name}`], `the system's adapter "${name}"`);
    if (found && !all.some((other) => words(other) === words(found))) all.push(found);
  }
  all.sort((a, b) => Number(a.kind === "software") - Number(b.kind === "software"));
  return { accepted: all.filter(accept), seen: all.map((found) => found.name) };
}

async function request(flags: readonly string[], how: string): Promise<FoundAdapter | undefined> {
  const gpu = await openDawn(flags);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  return adapter ? describe(gpu, adapter, how) : undefined;
}

async function embedded(flags: readonly string[]): Promise<FoundAdapter> {
  let reason = "Dawn does not accept it";
  try {
    const gpu = await openSwiftShader(flags);
    const adapter = await gpu.requestAdapter();
    const found = adapter && describe(gpu, adapter, "the SwiftShader of the npm package @sparticuz/chromium");
    if (found?.name === "swiftshader") return found;
    if (found) reason = `Dawn gave ${found.name} instead`;
  } catch (error) {
    reason = error instanceof Error ? error.message : String(error);
  }
  throw new Error([`adapters: no adapter found; ${reason}`, ...howToInstall()].join("\n  "));
}

function notFound(wanted: string, seen: readonly string[]): Error {
  const hardware = wanted === "gpu" || wanted === "hardware";
  const what = hardware ? "no hardware adapter" : `no adapter matches "${wanted}"`;
  const choices = "ADAMIX_DEVICE takes auto, gpu, software, lavapipe, swiftshader or a part of a name";
  const steps = hardware ? hardwareHelp() : seen.length > 0 ? [] : howToInstall();
  return new Error([`adapters: ${what}; ${whatIsThere(seen)}. ${choices}`, ...steps].join("\n  "));
}

function whatIsThere(seen: readonly string[]): string {
  if (seen.length > 0) return `found: ${seen.join(", ")}`;
  if (!loaderIsInstalled()) return "there is no Vulkan loader (libvulkan.so.1)";
  return "the system offers none that Dawn takes";
}

function describe(gpu: GPU, adapter: GPUAdapter, how: string): FoundAdapter {
  const { vendor, architecture, device, description } = adapter.info;
  const all = `${vendor} ${architecture} ${device} ${description}`.toLowerCase();
  if (/swiftshader/.test(all)) return { gpu, adapter, kind: "software", name: "swiftshader", how };
  if (/llvmpipe|lavapipe/.test(all)) return { gpu, adapter, kind: "software", name: "lavapipe", how };
  const software = adapter.info.isFallbackAdapter || /software|basic render|softpipe|\bwarp\b/.test(all);
  return { gpu, adapter, kind: software ? "software" : "hardware", name: nameOf(adapter.info), how };
}

/** Vendor and device, without saying the vendor twice. */
function nameOf({ vendor, architecture, device, description }: GPUAdapterInfo): string {
  const plain = (device || architecture || description || "unknown").replace(/[^a-z0-9.]+/gi, " ").trim();
  const name = plain.toLowerCase().startsWith(vendor.toLowerCase()) ? plain : `${vendor} ${plain}`;
  return name.toLowerCase();
}

/** All that a name may be matched against. */
function words({ name, adapter: { info } }: FoundAdapter): string {
  return [name, info.vendor, info.architecture, info.device, info.description].join(" ").toLowerCase();
}
