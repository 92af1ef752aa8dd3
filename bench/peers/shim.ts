// What other engines expect of a browser, for Node: navigator.gpu on the adapter that ADAMIX_DEVICE names, WebGPU's
// global classes and constants, and the iterator helpers that Node has from 22 on.
import { globals } from "webgpu";
import { findAdapter, settle } from "../../src/platform/index.ts";

/** Installs it, and gives the adapter's name. Without WebGPU there is a navigator all the same: engines look at it. */
export async function installBrowser({ webgpu }: { readonly webgpu: boolean }): Promise<string> {
  addIteratorHelpers();
  const navigator: Record<string, unknown> = { userAgent: `node ${process.versions.node}` };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  if (!webgpu) return "none";
  Object.assign(globalThis, globals);
  const { name, kind } = await findAdapter();
  navigator.gpu = { requestAdapter: async () => watched((await findAdapter()).adapter) };
  if (kind === "software") waitPolitely();
  return name;
}

/** The first error of a device that nobody caught: what an engine then computes counts for nothing. */
let failure: string | null = null;

/** Throws where WebGPU refused something of what the engine did. */
export function checkDevices(): void {
  if (failure !== null) throw new Error(`WebGPU: ${failure}`);
}

function watched(adapter: GPUAdapter): GPUAdapter {
  const requestDevice = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async (descriptor) => {
    const device = await requestDevice(descriptor);
    device.addEventListener("uncapturederror", ({ error }) => {
      failure ??= error.message;
    });
    return device;
  };
  return adapter;
}

/**
 * On a software adapter an ordinary wait in Node takes a core away from the driver: the peers get adamix's own way of
 * waiting, so that engines are compared and not waits.
 */
function waitPolitely(): void {
  const { GPUBuffer, GPUQueue } = globals as typeof globalThis;
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = function (...args) {
    return settle(mapAsync.apply(this, args), true);
  };
  const { onSubmittedWorkDone } = GPUQueue.prototype;
  GPUQueue.prototype.onSubmittedWorkDone = function () {
    return settle(onSubmittedWorkDone.call(this), true);
  };
}

type AnyIterator = Iterator<unknown> & Iterable<unknown>;

/** `map`, `filter` and the others of ECMAScript 2025, as far as an engine here uses them. */
function addIteratorHelpers(): void {
  const prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as object;
  const helpers: Record<string, (this: AnyIterator, ...args: never[]) => unknown> = {
    *map(visit: (value: unknown, i: number) => unknown) {
      let i = 0;
      for (const value of this) yield visit(value, i++);
    },
    *filter(accept: (value: unknown, i: number) => boolean) {
      let i = 0;
      for (const value of this) if (accept(value, i++)) yield value;
    },
    toArray() {
      return [...this];
    },
    some(accept: (value: unknown) => boolean) {
      for (const value of this) if (accept(value)) return true;
      return false;
    },
    every(accept: (value: unknown) => boolean) {
      for (const value of this) if (!accept(value)) return false;
      return true;
    },
    reduce(add: (sum: unknown, value: unknown) => unknown, first: unknown) {
      let sum = first;
      for (const value of this) sum = add(sum, value);
      return sum;
    },
  };
  for (const [name, value] of Object.entries(helpers))
    if (!(name in prototype))
      Object.defineProperty(prototype, name, { value, configurable: true, writable: true });
}
