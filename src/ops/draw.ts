import type { GpuArray } from "../array/index.ts";

/**
 * Where an op's random numbers come from. `clock` is a u32 array [seed, step] on the GPU, written once a step;
 * the rest says what the numbers are for, so that one batch of 2B rows and two passes of B rows draw the same.
 */
export interface Draw {
  readonly clock: GpuArray;
  /** 32-bit name of the stream. */
  readonly stream: number;
  /** Examples of one pass: row r is example r mod examples of pass r div examples. */
  readonly examples: number;
  readonly firstExample: number;
  readonly firstPass: number;
}

/** Parameters of a kernel that draws. */
export function drawParams(draw: Draw | null): Record<string, number> {
  return {
    stream: draw?.stream ?? 0,
    examples: draw?.examples ?? 1,
    first_example: draw?.firstExample ?? 0,
    first_pass: draw?.firstPass ?? 0,
  };
}

/** A word below this drops its element: p of all words. */
export function dropThreshold(p: number): number {
  return Math.min(Math.round(p * 2 ** 32), 2 ** 32 - 1);
}
