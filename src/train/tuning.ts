import type { Gpu } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { checkRace, race, type TuneOptions } from "../ops/index.ts";
import {
  assertRecordOf,
  type KernelRecord,
  type PassOrder,
  tuneKernels,
  useKernels,
} from "./kernel-record.ts";

export interface TuningOptions extends TuneOptions {
  /** Batches of the training that are run for their products, up to their gradients: from the first on. Default 8. */
  readonly batches?: number;
  /** Told at once, before the first step: for those who keep records of runs that may break off. */
  readonly onTuned?: (record: KernelRecord) => void;
}

/** By which kernels a training runs. Without any of these, by the fixed table's. */
export interface KernelOptions {
  /**
   * Times kernels, and two passes in one batch and one after the other, before the first step, and goes on with the
   * fastest. Nothing is learned meanwhile. The order of sums depends on it: `kernels` repeats the run.
   */
  readonly tune?: boolean | TuningOptions;
  /** What a run was tuned to: the same kernels, and so the same bits. Only on the adapter that it was tuned on. */
  readonly kernels?: KernelRecord;
  /**
   * Whether two passes are one batch of twice the rows, or run one after the other: the same numbers. Default: what a
   * record says or tuning finds, else true.
   */
  readonly passesInOneBatch?: boolean;
}

/** A training, as far as tuning sees it. */
export interface Rehearsal {
  /** Forward passes of a step. */
  readonly passes: 1 | 2;
  passesInOneBatch: boolean;
  /** Runs a step up to its gradients and learns nothing. */
  rehearse(step: number): void;
}

/**
 * Puts the kernels of a training in force, after tuning if that is asked for; null: none were asked for. They stay in
 * force: the caller puts the ones before back.
 */
export async function settleKernels(
  gpu: Gpu,
  rehearsal: Rehearsal,
  { steps, tune = false, kernels, passesInOneBatch }: KernelOptions & { readonly steps: number },
): Promise<KernelRecord | null> {
  const options = tune === true ? {} : tune;
  const record = options ? await tuned(gpu, rehearsal, steps, options, passesInOneBatch) : (kernels ?? null);
  if (!record) return null;
  useKernels(gpu, record);
  if (record.passes) rehearsal.passesInOneBatch = record.passes.winner === "in one batch";
  if (options) options.onTuned?.(record);
  return record;
}

/** Passes first, with the kernels that there are: how many rows products have depends on them. */
async function tuned(
  gpu: Gpu,
  rehearsal: Rehearsal,
  steps: number,
  { batches = 8, onTuned: _, ...options }: TuningOptions,
  passesInOneBatch: boolean | undefined,
): Promise<KernelRecord> {
  useKernels(gpu, null);
  const isOpen = rehearsal.passes === 2 && passesInOneBatch === undefined;
  const contenders = (["in one batch", "one after the other"] as const).map((name: PassOrder) => ({
    name,
    run(): void {
      rehearsal.passesInOneBatch = name === "in one batch";
      rehearsal.rehearse(0);
    },
  }));
  const passes = isOpen ? await race(gpu, contenders, options) : null;
  if (passes) rehearsal.passesInOneBatch = passes.winner === "in one batch";
  const step = (): void => {
    for (let i = 0; i < Math.min(batches, steps); i++) rehearsal.rehearse(i);
  };
  return { ...(await tuneKernels(gpu, step, options)), passes };
}

/** Throws where options do not go together, make no sense, or are of another device. `what`: who asks. */
export function checkKernelOptions(
  what: string,
  gpu: Gpu,
  { tune, kernels, passesInOneBatch }: KernelOptions,
): void {
  if (kernels) assertRecordOf(gpu, kernels, what);
  if (tune && kernels)
    throw new ShapeError(
      `${what}: kernels are given and tune is too; a record is tuned already, leave out one`,
    );
  const said = kernels?.passes?.winner;
  if (said && passesInOneBatch !== undefined && passesInOneBatch !== (said === "in one batch"))
    throw new ShapeError(
      `${what}: passesInOneBatch is ${passesInOneBatch}, and passes of the record of kernels run ${said}; leave it out`,
    );
  if (typeof tune !== "object") return;
  checkRace(`${what}: tune`, tune);
  const { batches = 8 } = tune;
  if (!(Number.isInteger(batches) && batches > 0))
    throw new ShapeError(`${what}: tune.batches is ${batches}, expected 1 or more`);
}
