import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  adaptersUsed,
  appendLine,
  debugLevel,
  env,
  exists,
  fileInfo,
  findAdapter,
  howToInstall,
  joinPath,
  listFolder,
  makeFolder,
  numberFromEnv,
  packageRoot,
  readBytes,
  readText,
  removePath,
  settle,
  shaderText,
  writeFileAtomic,
  writeFolderAtomic,
} from "../src/platform/index.ts";
import { linuxHelp } from "../src/platform/install-help.ts";
import { renamed } from "../src/platform/swiftshader.ts";
import { runProgram } from "./program-process.ts";
import { skipped } from "./skip.ts";

const STORAGE = 0x80;
const COPY_SRC = 4;
const COPY_DST = 8;
const MAP_READ = 1;

const adapters = suite("adapters");

adapters("a found adapter runs a compute shader, and each call gives a fresh adapter", async () => {
  for (let i = 0; i < 2; i++) {
    const { adapter, kind, name, how } = await findAdapter();
    assert.ok(name === name.toLowerCase() && name.length > 0 && how.length > 0);
    assert.equal([...(await squares(adapter, kind === "software"))], [0, 1, 4, 9, 16]);
  }
  const { name } = await findAdapter();
  assert.ok(adaptersUsed().some((used) => used.name === name));
});

adapters("ADAMIX_DEVICE decides which adapter is found", async () => {
  const wanted = env("ADAMIX_DEVICE") ?? "auto";
  const { name, kind } = await findAdapter();
  if (wanted === "gpu") assert.is(kind, "hardware");
  if (wanted === "software") assert.is(kind, "software");
  if (wanted === "lavapipe" || wanted === "swiftshader") assert.is(name, wanted);
});

adapters("an adapter is found by a part of its name", async () => {
  const { name } = await findAdapter();
  if (name === "swiftshader") return; // that word always means the embedded driver
  assert.is((await findAdapter(name.slice(1))).name, name);
});

const OPENED = "Dawn is opened once for a driver that is asked for: each time it warns on stderr";
if ((await findAdapter("auto")).name === "lavapipe") {
  adapters(OPENED, async () => {
    const opened = async (choice: string): Promise<number> => {
      const { stdout } = await runProgram(`
        import { findAdapter } from "./src/platform/index.ts";
        await findAdapter("${choice}");
        console.log(globalThis[Symbol.for("adamix.gpu")].size);`);
      return Number(stdout);
    };
    assert.equal([await opened("lavapipe"), await opened("software")], [1, 1]);
    assert.is(await opened("auto"), 2, "one more, to see that there is nothing better");
  });
} else skipped(adapters, OPENED, "the system's adapter is not lavapipe");

adapters("an unknown name says what was found and what may be asked for", async () => {
  const error = await rejection(findAdapter("voodoo2"));
  assert.match(error.message, /^adapters: no adapter matches "voodoo2"; /);
  assert.match(error.message, /found: |there is no Vulkan loader|the system offers none/);
  assert.match(
    error.message,
    /ADAMIX_DEVICE takes auto, gpu, software, lavapipe, swiftshader or a part of a name/,
  );
});

const isEmbeddable =
  exists(joinPath(packageRoot(), "node_modules", "@sparticuz", "chromium")) && isLinuxX64();
const embedded = "the embedded SwiftShader opens beside another adapter";
if (!isEmbeddable) skipped(adapters, embedded, "it takes linux x64 and the package @sparticuz/chromium");
else {
  adapters(embedded, async () => {
    const first = await findAdapter();
    const { adapter, name } = await findAdapter("swiftshader");
    assert.is(name, "swiftshader");
    assert.equal([...(await squares(adapter, true))], [0, 1, 4, 9, 16]);
    assert.is((await findAdapter()).name, first.name);
  });
}

adapters("the driver's own name is replaced once, or not at all", () => {
  const library = (text: string) => new TextEncoder().encode(text);
  const bytes = renamed(library("ELF\0libvk_swiftshader.so\0end"));
  assert.is(new TextDecoder().decode(bytes), "ELF\0libvulkan.so.1\0\0\0\0\0\0\0end");
  assert.throws(() => renamed(library("ELF")), /once/);
  assert.throws(() => renamed(library("\0libvk_swiftshader.so\0libvk_swiftshader.so\0")), /once/);
});

adapters("what to install is said for each system", () => {
  assert.ok(howToInstall().length > 0);
  assert.match(linuxHelp('ID=debian\nVERSION_ID="12"', "x64").join("\n"), /bookworm-backports/);
  assert.match(
    linuxHelp('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"', "arm64").join("\n"),
    /^apt-get install/,
  );
  assert.match(linuxHelp("ID=fedora", "x64").join("\n"), /dnf install.*\n.*@sparticuz\/chromium@147/);
  assert.match(linuxHelp("ID=alpine", "x64").join("\n"), /musl/);
});

const waiting = suite("waiting");

waiting("a settled promise gives its value or its error, politely or not", async () => {
  for (const polite of [true, false]) {
    assert.is(await settle(Promise.resolve(7), polite), 7);
    assert.is((await rejection(settle(Promise.reject(new Error("lost")), polite))).message, "lost");
  }
});

waiting("a polite wait leaves the event loop running", async () => {
  let turns = 0;
  const slow = new Promise<string>((resolve) => {
    const count = () => (++turns === 20 ? resolve("done") : setImmediate(count));
    count();
  });
  assert.is(await settle(slow, true), "done");
});

const files = suite("files", { folder: "" });

files.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "adamix-test-"));
});

files.after.each((context) => {
  rmSync(context.folder, { recursive: true, force: true });
});

files("an atomic write replaces the file and leaves nothing else", ({ folder }) => {
  const path = join(folder, "new", "a.bin");
  writeFileAtomic(path, "first");
  writeFileAtomic(path, new Uint8Array([1, 2, 3, 4]));
  assert.equal([...readBytes(path)], [1, 2, 3, 4]);
  assert.equal([...readBytes(path, { start: 1, end: 3 })], [2, 3]);
  assert.equal(readdirSync(join(folder, "new")), ["a.bin"]);
});

files("parts are written in order", ({ folder }) => {
  const path = join(folder, "parts");
  writeFileAtomic(path, ["ab", new Uint8Array([0x63]), "d"]);
  assert.is(readText(path), "abcd");
});

files("a write that fails half way keeps the old file", ({ folder }) => {
  const path = join(folder, "kept");
  writeFileAtomic(path, "old");
  function* broken(): Generator<string> {
    yield "half";
    throw new Error("no more");
  }
  assert.throws(() => writeFileAtomic(path, broken()), `files: cannot write ${path}: no more`);
  assert.is(readText(path), "old");
  assert.equal(readdirSync(folder), ["kept"]);
});

files("a folder is written whole, and replaces what was there", ({ folder }) => {
  const target = join(folder, "run");
  const bytes = new Uint8Array([9]);
  writeFolderAtomic(
    target,
    new Map<string, string | Uint8Array>([
      ["a", "1"],
      ["deep/b", bytes],
    ]),
  );
  assert.equal(listFolder(target), ["a", "deep"]);
  assert.equal([...readBytes(join(target, "deep", "b"))], [9]);
  writeFolderAtomic(target, new Map([["c", "2"]]));
  assert.equal(listFolder(target), ["c"]);
  assert.equal(listFolder(folder), ["run"]);
});

files("a folder that cannot be written whole keeps the old one", ({ folder }) => {
  const target = join(folder, "run");
  writeFolderAtomic(target, new Map([["a", "1"]]));
  assert.throws(
    () =>
      writeFolderAtomic(
        target,
        new Map([
          ["b", "2"],
          ["../out", "3"],
        ]),
      ),
    /leaves the folder/,
  );
  assert.equal(listFolder(target), ["a"]);
  assert.equal(listFolder(folder), ["run"]);
});

files("lines are appended, and a line holds no line break", ({ folder }) => {
  const path = join(folder, "log.jsonl");
  appendLine(path, "{}");
  appendLine(path, "[]");
  assert.is(readText(path), "{}\n[]\n");
  assert.throws(() => appendLine(path, "a\nb"), /holds a line break/);
});

files("errors name the path and the reason in one line", ({ folder }) => {
  const path = join(folder, "none");
  assert.throws(() => readBytes(path), `files: cannot read ${path}: no such file or folder`);
  assert.throws(() => listFolder(path), `files: cannot list ${path}: no such file or folder`);
  assert.throws(() => readBytes(folder), `files: cannot read ${folder}: it is a folder`);
  writeFileAtomic(path, "12");
  assert.throws(() => readBytes(path, { end: 3 }), `files: ${path} ends at byte 2, wanted 3`);
});

files("folders are made, looked at and removed", ({ folder }) => {
  const deep = join(folder, "a", "b");
  makeFolder(deep);
  makeFolder(deep);
  assert.is(fileInfo(deep)?.isFolder, true);
  assert.is(fileInfo(join(deep, "c")), undefined);
  removePath(join(folder, "a"));
  removePath(join(folder, "a"));
  assert.not(exists(deep));
});

const settings = suite("settings");

settings("a shader that is missing is named with its file", () => {
  assert.throws(() => shaderText("no_such"), new RegExp(`no file ${packageRoot()}.*no_such.wgsl`));
});

settings("ADAMIX_DEBUG is 0 to 3, and numbers are numbers", () => {
  const before = process.env.ADAMIX_DEBUG;
  try {
    process.env.ADAMIX_DEBUG = "2";
    assert.is(debugLevel(), 2);
    assert.is(numberFromEnv("ADAMIX_DEBUG", 5), 2);
    process.env.ADAMIX_DEBUG = "";
    assert.is(debugLevel(), 0);
    assert.is(numberFromEnv("ADAMIX_DEBUG", 5), 5);
    process.env.ADAMIX_DEBUG = "loud";
    assert.throws(() => debugLevel(), 'env: ADAMIX_DEBUG is "loud", expected 0, 1, 2 or 3');
    assert.throws(() => numberFromEnv("ADAMIX_DEBUG", 5), "expected a number");
  } finally {
    if (before === undefined) delete process.env.ADAMIX_DEBUG;
    else process.env.ADAMIX_DEBUG = before;
  }
});

adapters.run();
waiting.run();
files.run();
settings.run();

function isLinuxX64(): boolean {
  return process.platform === "linux" && process.arch === "x64";
}

/** Runs one dispatch that squares 0 to 4. */
async function squares(adapter: GPUAdapter, polite: boolean): Promise<Float32Array> {
  const device = await adapter.requestDevice();
  const code = `
    @group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(5) fn main(@builtin(global_invocation_id) id: vec3u) {
      y[id.x] = f32(id.x * id.x);
    }`;
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const y = device.createBuffer({ size: 20, usage: STORAGE | COPY_SRC });
  const out = device.createBuffer({ size: 20, usage: MAP_READ | COPY_DST });
  const entries = [{ binding: 0, resource: { buffer: y } }];
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(y, 0, out, 0, 20);
  device.queue.submit([encoder.finish()]);
  await settle(out.mapAsync(MAP_READ), polite);
  const result = new Float32Array(out.getMappedRange()).slice();
  device.destroy();
  return result;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("expected a rejection with an Error");
}
