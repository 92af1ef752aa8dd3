import { createHash } from "node:crypto";
import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { writeFileAtomic } from "./atomic.ts";
import { openDawn } from "./dawn.ts";
import { packageRoot } from "./paths.ts";

const DRIVER = "libvk_swiftshader.so";
const LOADER = "libvulkan.so.1";
const RTLD_NODELETE = 0x1000;

/**
 * SwiftShader, a Vulkan driver for the CPU, taken from the npm package @sparticuz/chromium: no Vulkan need be
 * installed. Where no Vulkan loader is in the process yet, the driver is loaded under the loader's name, and
 * every later Vulkan object of the process is SwiftShader's. Where one is, it is pointed at the driver.
 */
export async function openSwiftShader(flags: readonly string[]): Promise<GPU> {
  const driver = readDriver();
  const loaded = libraries();
  const inPlace = loaded.includes(`/${driver.key}/${LOADER}`) || !loaded.includes(`/${LOADER}`);
  return inPlace ? openInPlaceOfLoader(flags, driver) : openThroughLoader(flags, driver);
}

interface Driver {
  readonly archive: Uint8Array;
  /** Names the archive's content, so that a new version of the package gets a new file. */
  readonly key: string;
}

function readDriver(): Driver {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(
      `swiftshader: the embedded driver is for linux x64, this is ${process.platform} ${process.arch}`,
    );
  }
  const archive = readFileSync(archivePath());
  return { archive, key: createHash("sha256").update(archive).digest("hex").slice(0, 16) };
}

function archivePath(): string {
  const require = createRequire(import.meta.url);
  for (const folder of require.resolve.paths("@sparticuz/chromium") ?? []) {
    const path = join(folder, "@sparticuz", "chromium", "bin", "swiftshader.tar.br");
    if (existsSync(path)) return path;
  }
  throw new Error("swiftshader: the npm package @sparticuz/chromium, which holds it, is not installed");
}

/** The files mapped into this process, libraries among them. */
function libraries(): string {
  return readFileSync("/proc/self/maps", "utf8");
}

async function openInPlaceOfLoader(flags: readonly string[], driver: Driver): Promise<GPU> {
  load(driver, LOADER, () => renamed(extract(driver.archive, DRIVER)));
  return openDawn(flags, "swiftshader in place of the loader");
}

async function openThroughLoader(flags: readonly string[], driver: Driver): Promise<GPU> {
  const manifest = writeManifest(driver);
  const before = { drivers: process.env.VK_DRIVER_FILES, icds: process.env.VK_ICD_FILENAMES };
  process.env.VK_DRIVER_FILES = manifest;
  process.env.VK_ICD_FILENAMES = manifest; // its name before loader 1.3.207
  try {
    const gpu = await openDawn(flags, "swiftshader through the loader");
    await gpu.requestAdapter(); // Dawn makes its Vulkan instance here, and keeps it
    return gpu;
  } finally {
    restore("VK_DRIVER_FILES", before.drivers);
    restore("VK_ICD_FILENAMES", before.icds);
  }
}

/** The file that tells the loader where the driver is. */
function writeManifest(driver: Driver): string {
  const library = load(driver, DRIVER, () => extract(driver.archive, DRIVER));
  const manifest = join(dirname(library), "vk_swiftshader_icd.json");
  const ICD = { library_path: library, api_version: "1.1.0" };
  writeFileAtomic(manifest, JSON.stringify({ file_format_version: "1.0.0", ICD }));
  return manifest;
}

/** Loads a library from the first cache folder that allows it, written there if it is missing. */
function load(driver: Driver, name: string, content: () => Uint8Array): string {
  const failures: string[] = [];
  for (const folder of cacheFolders()) {
    try {
      const file = join(usableFolder(folder), driver.key, name);
      if (!existsSync(file)) writeFileAtomic(file, content());
      keepLoaded(file);
      return file;
    } catch (error) {
      failures.push(`${folder}: ${firstLine(error)}`);
    }
  }
  throw new Error(
    `swiftshader: the driver can be loaded from no folder (${failures.join("; ")}); are they mounted noexec?`,
  );
}

function restore(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

/** node_modules/.cache/adamix, be the package inside node_modules or above it; then the temporary folder. */
function cacheFolders(): string[] {
  const root = packageRoot();
  const modules = basename(dirname(root)) === "node_modules" ? dirname(root) : join(root, "node_modules");
  const folders = [join(tmpdir(), `adamix-${process.getuid?.() ?? 0}`)];
  if (existsSync(modules)) folders.unshift(join(modules, ".cache", "adamix"));
  return folders;
}

/** Makes the folder; code is loaded from it, so it must be ours and closed to others. */
function usableFolder(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (dirname(path) === tmpdir()) {
    const { uid } = lstatSync(path);
    if (uid !== process.getuid?.()) throw new Error(`it belongs to user ${uid}`);
    chmodSync(path, 0o700);
  }
  return path;
}

/** Loads a shared library for good. Node then looks for an addon in it and throws; the library stays. */
function keepLoaded(file: string): void {
  try {
    process.dlopen({ exports: {} }, file, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
  } catch (error) {
    if (!firstLine(error).includes("did not self-register")) throw error;
  }
}

/** The driver with the loader's SONAME: what asks for libvulkan.so.1 finds the library already there. */
export function renamed(library: Uint8Array): Uint8Array {
  const bytes = Buffer.from(library);
  const soname = Buffer.from(`\0${DRIVER}\0`);
  const at = bytes.indexOf(soname);
  if (at < 0 || bytes.indexOf(soname, at + 1) >= 0) {
    throw new Error(
      `swiftshader: expected the name ${DRIVER} once in the library; another version of the package?`,
    );
  }
  bytes.fill(0, at, at + soname.length);
  bytes.write(`\0${LOADER}\0`, at, "latin1");
  return bytes;
}

/** One file of a tar archive packed with brotli. */
function extract(archive: Uint8Array, name: string): Uint8Array {
  const tar = brotliDecompressSync(archive);
  const text = (start: number, end: number) => tar.toString("latin1", start, end).split("\0")[0] ?? "";
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const bytes = Number.parseInt(text(at + 124, at + 136), 8);
    if (text(at, at + 100).replace(/^\.\//, "") === name) return tar.subarray(at + 512, at + 512 + bytes);
    at += 512 + Math.ceil(bytes / 512) * 512;
  }
  throw new Error(`swiftshader: no ${name} in the archive; another version of the package?`);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
