/** What is said of an object that was lost. */
interface Lost {
  readonly what: string;
  readonly stack: string;
}

/**
 * Reports objects that were collected as garbage without having been disposed, with the stack that made them. Their
 * memory on the device stays lost: finalisers never free, as nobody knows when they run. For debugging: a stack for
 * every object costs time.
 */
export class LeakReporter {
  readonly #registry: FinalizationRegistry<Lost>;
  #isOver = false;

  constructor(report: (message: string) => void) {
    this.#registry = new FinalizationRegistry(({ what, stack }) => {
      if (this.#isOver) return;
      report(
        `leak: ${what} was collected without dispose(); its memory is lost. It was made here:\n${stack}`,
      );
    });
  }

  /** The device is closed, and all memory was given back with it. */
  end(): void {
    this.#isOver = true;
  }

  /** Watches an object until `forget`. */
  watch(object: object, what: string): void {
    const stack = (new Error().stack ?? "").split("\n").slice(2).join("\n");
    this.#registry.register(object, { what, stack }, object);
  }

  forget(object: object): void {
    this.#registry.unregister(object);
  }
}
