// Tuned kernels on the command line: a run keeps what it was tuned to, and another run may take it.
import { absolutePath, exists, fileInfo, joinPath, readText } from "../platform/index.ts";
import { checkKernelRecord, KERNELS_FILE, type KernelRecord } from "../train/index.ts";
import { UsageError } from "./failure.ts";

/** The file that a config's `kernels` means: a record, or the one in the folder of a run. */
export function kernelsFile(path: string): string {
  const whole = absolutePath(path);
  const file = fileInfo(whole)?.isFolder ? joinPath(whole, KERNELS_FILE) : whole;
  if (exists(file)) return file;
  throw new UsageError(`kernels: there is no ${file}; it is written by a run with --tune`);
}

export function readKernels(file: string): KernelRecord {
  let value: unknown;
  try {
    value = JSON.parse(readText(file));
  } catch (error) {
    throw new UsageError(`kernels: ${file} is no JSON: ${(error as Error).message}`);
  }
  return checkKernelRecord(value, `kernels: ${file}`);
}

/** "3 of 8 kinds of products (61% of the operations) by another kernel than the table's; passes in one batch" */
export function describeKernels({ products, passes }: KernelRecord): string {
  const all = Object.values(products);
  const others = all.filter(({ form, table }) => form !== table);
  const share = others.reduce((sum, product) => sum + product.share, 0);
  const chosen = `${others.length} of ${all.length} kinds of products (${(100 * share).toFixed(0)}% of the operations) by another kernel than the table's`;
  return passes ? `${chosen}; passes ${passes.winner}` : chosen;
}
