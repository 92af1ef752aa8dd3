import type { Gpu } from "../src/array/index.ts";
import { options } from "./options.ts";

interface Skippable {
  skip(name?: string, handler?: () => void): void;
}

/** Registers a test that is not run here, and says in one line why. */
export function skipped(suite: Skippable, name: string, reason: string): void {
  suite.skip(name, () => {});
  console.log(`skipped: ${name} (${reason})`);
}

/**
 * Whether the tests of all tiles of GPUs are for `test:full`: the embedded driver, whose subgroups have four lanes, compiles
 * one for a second. It has the op table with both variants of kernels.
 */
export function leavesTilesToFull({ subgroupSize }: Gpu): boolean {
  return subgroupSize === 4 && !options.full;
}
