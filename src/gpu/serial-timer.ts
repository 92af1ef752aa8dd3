import type { DispatchTime, DispatchTimer } from "./dispatch-record.ts";
import type { Encode, Recorder } from "./recorder.ts";
import { type CommandQueue, SerialQueue } from "./serial-queue.ts";

/**
 * Times dispatches by the host's clock, for devices without timestamp queries: a submit for each, held back until
 * somebody waits and then run one after another. Every time includes the round trip of an empty submit.
 */
export class SerialTimer implements DispatchTimer {
  readonly #recorder: Recorder;
  readonly #direct: CommandQueue;
  readonly #queue: SerialQueue;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
    recorder.flush();
    this.#direct = recorder.queue;
    this.#queue = new SerialQueue(this.#direct);
    recorder.queue = this.#queue;
  }

  dispatch(encode: Encode, onTimed: (time: DispatchTime) => void): void {
    this.#recorder.flush(); // copies before it are not timed with it
    encode();
    this.#recorder.flush();
    this.#queue.time((startedMs, endedMs) =>
      onTimed({ startedMs, endedMs, isFirst: true, roundTripMs: this.#queue.roundTripMs }),
    );
  }

  submitting(): void {}

  submitted(): void {}

  delivered(): Promise<void> {
    return this.#queue.drain();
  }

  async settled(): Promise<void> {
    this.#recorder.flush();
    await this.delivered();
  }

  /** Afterwards commands go to the device directly again. */
  async close(): Promise<void> {
    this.#recorder.flush();
    await this.#queue.drain(() => {
      this.#recorder.queue = this.#direct;
    });
  }
}
