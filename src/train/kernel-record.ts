// Kernels that were chosen by time, as a plain value that a run keeps: which kernel computes a product decides on the
// order of its sums, so a run is repeated to the bit only with the kernels that it had.
import { z } from "zod";
import type { Gpu } from "../array/index.ts";
import { packageVersion } from "../formats/index.ts";
import { GpuError } from "../gpu/index.ts";
import { FormatError } from "../io/index.ts";
import {
  chooseForms,
  type Finish,
  type Forms,
  formNames,
  type TunedProduct,
  type TuneOptions,
  tuneProducts,
} from "../ops/index.ts";

/** What kernels are chosen for. A record is good for devices of which all of it holds. */
export interface KernelAdapter {
  readonly name: string;
  /** The variants for GPUs or for software adapters. */
  readonly kernels: "hardware" | "software";
  /** Lanes of a subgroup where that is one fixed number, else 0. */
  readonly subgroupSize: number;
  /** Rows, columns and step of the matrices that a subgroup multiplies, as in "16x16x16"; null: none. */
  readonly matrices: string | null;
}

/** How the two passes of a step run; see `passesInOneBatch` of fineTune. */
export type PassOrder = "in one batch" | "one after the other";

/** Plain values all through: JSON keeps it. */
export interface KernelRecord {
  readonly adapter: KernelAdapter;
  /** Of this package. Kernels of another version may have the same names and other sums. */
  readonly version: string;
  /** By class of product, such as "nt 512x256x1024"; the heaviest first. */
  readonly products: Readonly<Record<string, TunedProduct>>;
  /** With median milliseconds of a step's passes; null where there was nothing to choose. */
  readonly passes: Finish<PassOrder> | null;
}

/**
 * Times the kernels that can compute the heaviest matrix products of `step` on this device, and gives back which are the
 * fastest: by class of product (what is transposed, sizes rounded down to powers of two, what is fused into it). The
 * fixed table's kernel stays unless another one is faster by a margin, 5%. `step` runs once as always. Nothing is in
 * force yet: see `useKernels`. Device memory is as it was, the pool's reserve is given back.
 *
 *     const record = await tuneKernels(gpu, () => tidy(() => model.forward(input)));
 *     useKernels(gpu, record);
 *     writeFileSync("kernels.json", JSON.stringify(record));
 */
export async function tuneKernels(
  gpu: Gpu,
  step: () => void,
  options: TuneOptions = {},
): Promise<KernelRecord> {
  const products = await tuneProducts(gpu, step, options);
  return { adapter: adapterOf(gpu), version: packageVersion(), products, passes: null };
}

/**
 * From now on the device computes its products as a record says, and as the fixed table says where the record says
 * nothing; null: as the fixed table says. A record of another adapter, or with names that are not known, is refused.
 * Captured steps keep the kernels that they were recorded with.
 */
export function useKernels(gpu: Gpu, record: KernelRecord | null): void {
  if (record) assertRecordOf(gpu, record, "useKernels");
  chooseForms(gpu, record && formsOf(record));
}

/** Where a record chooses otherwise than the fixed table. */
function formsOf({ products }: KernelRecord): Forms | null {
  const chosen = Object.entries(products).filter(([, { form, table }]) => form !== table);
  return chosen.length > 0 ? new Map(chosen.map(([name, { form }]) => [name, form])) : null;
}

/** Throws unless this is a record, and of such a device. `what`: who asks. */
export function assertRecordOf(gpu: Gpu, record: KernelRecord, what: string): void {
  const { adapter } = checkKernelRecord(record, `${what}: the record`);
  const [made, own] = [showAdapter(adapter), showAdapter(adapterOf(gpu))];
  if (made !== own)
    throw new GpuError(
      `${what}: the record of kernels is of ${made}, this device is ${own}; tune on this one`,
    );
}

function adapterOf({ device, isSoftware, subgroupSize, matrices }: Gpu): KernelAdapter {
  return {
    name: device.traits.name,
    kernels: isSoftware ? "software" : "hardware",
    subgroupSize,
    matrices: matrices && `${matrices.rows}x${matrices.columns}x${matrices.step}`,
  };
}

function showAdapter({ name, kernels, subgroupSize, matrices }: KernelAdapter): string {
  return `${name} (${kernels} kernels, subgroups of ${subgroupSize || "no fixed size"}, ${matrices ? `matrices of ${matrices}` : "no matrices"})`;
}

const form = z.enum(formNames(), {
  error: ({ input }) =>
    `${JSON.stringify(input)} is no form of a product; there are ${formNames().join(", ")}`,
});
const times = z.record(z.string(), z.number());

const schema = z.object({
  adapter: z.object({
    name: z.string(),
    kernels: z.enum(["hardware", "software"]),
    subgroupSize: z.number(),
    matrices: z.string().nullable(),
  }),
  version: z.string(),
  products: z.record(
    z.string(),
    z.object({ form, table: form, size: z.string(), share: z.number(), ms: times }),
  ),
  passes: z.object({ winner: z.enum(["in one batch", "one after the other"]), ms: times }).nullable(),
});

/** `value` as a record, such as JSON of a file. `what`: it, for messages. */
export function checkKernelRecord(value: unknown, what: string): KernelRecord {
  const read = schema.safeParse(value);
  if (read.success) return read.data as KernelRecord; // of times, whose names are free
  const [issue] = read.error.issues;
  const where = issue?.path.map(String).join(" > ");
  throw new FormatError(`${what} is no record of kernels: ${where ? `${where}: ` : ""}${issue?.message}`);
}
