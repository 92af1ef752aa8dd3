import { Gpu, openGpu } from "../src/array/index.ts";

let opened: Promise<Gpu> | undefined;
let device: Gpu["device"] | undefined;

/** The device of all tests of this process, chosen by ADAMIX_DEVICE and opened once. It is never closed. */
export function gpu(): Promise<Gpu> {
  opened ??= openGpu().then((gpu) => {
    device = gpu.device;
    return gpu;
  });
  return opened;
}

/** Kernels that the device of all tests has compiled; 0 before it is opened. */
export function pipelines(): number {
  return device?.statistics().kernels ?? 0;
}

/** The same device with the kernels that are meant for GPUs, and with those for software adapters. */
export async function bothKernels(): Promise<Readonly<Record<"software" | "hardware", Gpu>>> {
  const own = await gpu();
  const other = new Gpu(own.device, { kernels: own.isSoftware ? "hardware" : "software" });
  return own.isSoftware ? { software: own, hardware: other } : { software: other, hardware: own };
}

/** Bytes that are handed out just now: what a test must leave as it found it. */
export function liveBytes({ device }: Gpu): number {
  return device.pool.statistics().liveBytes;
}

/** The adapter of that device; "" before it is opened. */
export function adapterName(): string {
  return device?.adapter.name ?? "";
}

/** Runs `body` with an environment variable set, and puts the old value back. */
export async function withEnv<T>(name: string, value: string, body: () => Promise<T>): Promise<T> {
  const before = process.env[name];
  process.env[name] = value;
  try {
    return await body();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}
