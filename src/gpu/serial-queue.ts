/** What the recorder needs of a GPUQueue. */
export interface CommandQueue {
  writeBuffer(
    buffer: GPUBuffer,
    offset: number,
    data: ArrayBuffer,
    dataOffset: number,
    bytes: number,
  ): unknown;
  submit(commands: Iterable<GPUCommandBuffer>): unknown;
  onSubmittedWorkDone(): Promise<unknown>;
}

/** Milliseconds of the host's clock around one submit. */
export type Timed = (startedMs: number, endedMs: number) => void;

interface Command {
  run(): void;
  timed: Timed | null;
}

const ROUND_TRIPS = 8;

/**
 * A queue that holds commands back and runs them one at a time when somebody waits, so that the host's
 * clock can be read around each: how a device without timestamp queries is profiled. Order is kept.
 */
export class SerialQueue implements CommandQueue {
  readonly #queue: CommandQueue;
  #commands: Command[] = [];
  #last: Command | null = null;
  #draining: Promise<void> = Promise.resolve();
  #roundTripMs = Number.NaN;

  constructor(queue: CommandQueue) {
    this.#queue = queue;
  }

  /** The shortest wait for an empty submit: part of every time. NaN before the first. */
  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  writeBuffer(buffer: GPUBuffer, offset: number, data: ArrayBuffer, dataOffset: number, bytes: number): void {
    const copy = data.slice(dataOffset, dataOffset + bytes);
    this.#hold(() => this.#queue.writeBuffer(buffer, offset, copy, 0, bytes));
  }

  submit(commands: Iterable<GPUCommandBuffer>): void {
    const held = [...commands];
    this.#last = this.#hold(() => this.#queue.submit(held));
  }

  /** Asks for the time of the last submit. */
  time(timed: Timed): void {
    if (this.#last) this.#last.timed = timed;
  }

  /** Of what has run: `drain` comes first. */
  onSubmittedWorkDone(): Promise<unknown> {
    return this.#queue.onSubmittedWorkDone();
  }

  /** Runs what is held back, each command after the one before it is done. `atEnd` runs when nothing is left. */
  drain(atEnd?: () => void): Promise<void> {
    const drained = this.#draining.then(() => this.#runSerially(atEnd));
    this.#draining = drained.catch(() => {}); // who waits for this drain is told; the next one goes on
    return drained;
  }

  /** Runs what is held back at once. What was to be timed is left out. */
  runNow(): void {
    const commands = this.#commands;
    this.#commands = [];
    this.#last = null;
    for (const { run } of commands) run();
  }

  #hold(run: () => void): Command {
    const command = { run, timed: null };
    this.#commands.push(command);
    return command;
  }

  async #runSerially(atEnd: (() => void) | undefined): Promise<void> {
    if (Number.isNaN(this.#roundTripMs)) await this.#measureRoundTrip();
    for (let command = this.#commands.shift(); command; command = this.#commands.shift()) {
      const startedMs = performance.now();
      command.run();
      // A bare await, on software adapters too: the polite wait sleeps longer than most kernels take.
      await this.#queue.onSubmittedWorkDone();
      command.timed?.(startedMs, performance.now());
    }
    this.#last = null;
    atEnd?.();
  }

  async #measureRoundTrip(): Promise<void> {
    await this.#queue.onSubmittedWorkDone(); // what was submitted before
    let shortestMs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ROUND_TRIPS; i++) {
      const startedMs = performance.now();
      this.#queue.submit([]);
      await this.#queue.onSubmittedWorkDone();
      shortestMs = Math.min(shortestMs, performance.now() - startedMs);
    }
    this.#roundTripMs = shortestMs;
  }
}
