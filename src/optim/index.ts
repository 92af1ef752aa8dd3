export { AdamW, type AdamWOptions } from "./adamw.ts";
export { Arena, type ArenaEntry } from "./arena.ts";
export { clipGradNorm } from "./clip.ts";
export { constantSchedule, linearSchedule, type Schedule } from "./schedule.ts";
