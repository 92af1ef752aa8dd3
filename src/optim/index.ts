export { AdamW, type AdamWOptions } from "./adamw.ts";
export { Arena, type ArenaEntry, type ArenaSegment } from "./arena.ts";
export { clipGradNorm } from "./clip.ts";
export { LossScaler, type LossScalerOptions } from "./loss-scaler.ts";
export { constantSchedule, linearSchedule, type Schedule } from "./schedule.ts";
