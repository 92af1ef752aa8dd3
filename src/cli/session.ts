import { type Gpu, openGpu } from "../array/index.ts";
import { joinPath, packageRoot, readText } from "../platform/index.ts";

/** Runs `action` on a device, by choice as in `--device`, and closes it whatever happens. */
export async function withGpu<T>(choice: string | undefined, action: (gpu: Gpu) => Promise<T>): Promise<T> {
  const gpu = await openGpu(choice);
  let result: T;
  try {
    result = await action(gpu);
  } catch (error) {
    await gpu.device.close().catch(() => {}); // what went wrong first is what is told
    throw error;
  }
  await gpu.device.close();
  return result;
}

/** "lavapipe (software; the system's preferred adapter)" */
export function describeDevice({ device }: Gpu): string {
  return `${device.traits.name} (${device.traits.kind}; ${device.adapter.how})`;
}

export interface Versions {
  readonly adamix: string;
  readonly node: string;
  readonly webgpu: string;
}

/** Versions of this package, of Node, and of the npm package webgpu that it is declared to need. */
export function versions(): Versions {
  const manifest = JSON.parse(readText(joinPath(packageRoot(), "package.json"))) as {
    readonly version: string;
    readonly dependencies: Readonly<Record<string, string>>;
  };
  return {
    adamix: manifest.version,
    node: process.versions.node,
    webgpu: manifest.dependencies.webgpu ?? "unknown",
  };
}
