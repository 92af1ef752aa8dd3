// Counts kernels: shapes must not compile.
import type { Device } from "../src/gpu/index.ts";

export interface KernelWatch {
  /** Labels and numbers of the kernels that ran during the watched calls. */
  readonly names: ReadonlySet<string>;
  during<T>(body: () => Promise<T>): Promise<T>;
}

/** Collects which kernels a device is asked for, compiled now or earlier. */
export function watchKernels({ kernels }: Device): KernelWatch {
  const names = new Set<string>();
  return {
    names,
    async during(body) {
      const own = kernels.get;
      kernels.get = (spec) => {
        const kernel = own.call(kernels, spec);
        names.add(`${kernel.id} ${kernel.label}`);
        return kernel;
      };
      try {
        return await body();
      } finally {
        kernels.get = own;
      }
    },
  };
}
