import { ShapeError } from "../gpu/index.ts";

/** The learning rate of each step, counted from 0. */
export type Schedule = (step: number) => number;

/**
 * Rises linearly from 0 to `lr` in `warmupSteps`, then falls linearly to 0 at `totalSteps`. Step 0 has rate 0
 * where there is a warm-up.
 */
export function linearSchedule(options: {
  readonly lr: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
}): Schedule {
  const { lr, warmupSteps, totalSteps } = options;
  if (!(warmupSteps >= 0 && warmupSteps <= totalSteps)) {
    throw new ShapeError(`schedule: ${warmupSteps} warm-up steps of ${totalSteps} steps in all`);
  }
  return (step) => {
    if (step < warmupSteps) return (lr * step) / warmupSteps;
    return totalSteps === warmupSteps
      ? lr
      : (lr * Math.max(0, totalSteps - step)) / (totalSteps - warmupSteps);
  };
}

/** The same rate in every step. */
export function constantSchedule(lr: number): Schedule {
  return () => lr;
}
