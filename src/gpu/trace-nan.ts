import type { Device } from "./device.ts";

/**
 * Runs `fn` and checks every array that a kernel writes in it. The first that holds NaN or an infinity is thrown as
 * a GpuError: op, kernel, array and element, and which of its inputs already held one. Gives what `fn` gives.
 *
 * What is checked is f32, f16 and bf16; masks of -1e9 or -3.4e38 are finite. Memory that is made meanwhile is
 * cleared first, and each array of a dispatch costs a dispatch: expect a few times the time. ADAMIX_DEBUG=3 does
 * this for a whole process.
 *
 *     await traceNaN(gpu, () => log(x).sum().backward());
 *     // GpuError: trace: log (kernel unary.forward) is the first to write NaN: y f32 [4] at [2], dispatch 1; ...
 */
export async function traceNaN<T>(
  { device }: { readonly device: Device },
  fn: () => T | Promise<T>,
): Promise<T> {
  device.watch.startTracing();
  try {
    const result = await fn();
    await device.watch.verify();
    return result;
  } finally {
    device.watch.stopTracing();
  }
}
