export { AdamW, type AdamWOptions } from "./adamw.ts";
export { Arena, type ArenaEntry, type ArenaSegment } from "./arena.ts";
export { clipGradNorm, clipGradValue } from "./clip.ts";
export { LossScaler, type LossScalerOptions } from "./loss-scaler.ts";
export type { Optimizer } from "./optimizer.ts";
export { RateSlot } from "./rate-slot.ts";
export {
  constantSchedule,
  cosineSchedule,
  type DecayOptions,
  inverseSquareRootSchedule,
  linearSchedule,
  polynomialSchedule,
  type Schedule,
  type WarmupOptions,
} from "./schedule.ts";
export { SGD, type SGDOptions } from "./sgd.ts";
