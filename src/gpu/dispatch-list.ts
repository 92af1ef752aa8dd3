import { type DispatchRecord, type DispatchTime, showBound } from "./dispatch-record.ts";
import type { Clock, Onlooker } from "./watch.ts";

/**
 * Writes one line for each dispatch, in order: op, kernel, arrays and time. Lines with times come when the times do,
 * shortly after a submit; without timestamp queries they come at once and have none.
 */
export class DispatchList implements Onlooker {
  readonly clock: Clock | undefined;
  readonly #write: (line: string) => void;

  constructor(write: (line: string) => void, hasTimestamps: boolean) {
    this.#write = write;
    this.clock = hasTimestamps ? "timestamps" : undefined;
  }

  onRecorded(record: DispatchRecord): void {
    if (!this.clock) this.#write(lineOf(record));
  }

  onTimed(record: DispatchRecord, { startedMs, endedMs }: DispatchTime): void {
    this.#write(`${lineOf(record)}  ${(endedMs - startedMs).toFixed(3)} ms`);
  }
}

/** "#12 layerNorm  layer_norm.forward  x f32 [8, 64], weight f32 [64] -> y f32 [8, 64]" */
function lineOf(record: DispatchRecord): string {
  const { number, op, kernel } = record;
  return `#${number} ${op ?? "-"}  ${kernel.label}  ${showBound(record)}`;
}
