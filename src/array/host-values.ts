import { ShapeError } from "../gpu/index.ts";
import type { HostArray } from "./dtype.ts";

/** Throws unless `data` is an array of the host that the device can be written from. */
export function checkHostArray(op: string, data: unknown): asserts data is HostArray {
  if (
    data instanceof Float32Array ||
    data instanceof Int32Array ||
    data instanceof Uint32Array ||
    data instanceof Uint8Array ||
    data instanceof Uint16Array
  )
    return;
  throw new ShapeError(`${op}: ${whatValues(data)}`);
}

/** What was given where values belong, and the way out. */
export function whatValues(data: unknown): string {
  if (data instanceof Promise) return "got a Promise; await it first: await data()";
  if (Array.isArray(data)) return "got a list; write Float32Array.from(it)";
  if (ArrayBuffer.isView(data))
    return `a ${data.constructor.name} is not stored; Float32Array.from(it), or an Int32Array, Uint32Array or Uint8Array`;
  const what = typeof data === "object" && data !== null ? data.constructor.name : typeof data;
  return `got a ${what}; pass a Float32Array, Int32Array, Uint32Array or Uint8Array`;
}
