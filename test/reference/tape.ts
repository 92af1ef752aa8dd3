// Reverse mode for the references: a list of what was computed, walked backward. It shares no code with src/, and
// reference-tape.test.ts holds it against central differences.
import { at, type RefTensor, ref } from "./tensor.ts";

/** A value on a tape. */
export interface Variable {
  readonly value: RefTensor;
  readonly index: number;
}

/** The gradients of an entry's parents, from that of its value; null where a parent has none. */
export type Pull = (dy: RefTensor) => readonly (RefTensor | null)[];

interface Entry {
  readonly parents: readonly (Variable | null)[];
  readonly pull: Pull | null;
  gradient: RefTensor | null;
}

export class Tape {
  readonly #entries: Entry[] = [];
  readonly #add: (a: RefTensor, b: RefTensor) => RefTensor;

  /** `add` joins the gradients of a value that is used more than once; a caller may disturb the sum. */
  constructor(add: (a: RefTensor, b: RefTensor) => RefTensor = plus) {
    this.#add = add;
  }

  leaf(value: RefTensor): Variable {
    return this.record(value, [], null);
  }

  record(value: RefTensor, parents: readonly (Variable | null)[], pull: Pull | null): Variable {
    this.#entries.push({ parents, pull, gradient: null });
    return { value, index: this.#entries.length - 1 };
  }

  /** Fills in the gradients of everything that `root` was computed from. */
  backward(root: Variable, dy: RefTensor): void {
    this.#receive(root, dy);
    for (let i = root.index; i >= 0; i--) {
      const entry = this.#entries[i];
      if (!entry?.gradient || !entry.pull) continue;
      const gradients = entry.pull(entry.gradient);
      entry.parents.forEach((parent, n) => {
        const gradient = gradients[n];
        if (parent && gradient) this.#receive(parent, gradient);
      });
    }
  }

  /** The gradient of a value; zeros where none arrived. */
  gradient({ index, value }: Variable): RefTensor {
    return this.#entries[index]?.gradient ?? ref(value.shape);
  }

  #receive({ index, value }: Variable, dy: RefTensor): void {
    const entry = this.#entries[index];
    if (!entry || String(dy.shape) !== String(value.shape))
      throw new Error(`tape: a gradient [${dy.shape}] for a value [${value.shape}]`);
    entry.gradient = entry.gradient ? this.#add(entry.gradient, dy) : dy;
  }
}

function plus(a: RefTensor, b: RefTensor): RefTensor {
  return { shape: a.shape, data: a.data.map((v, i) => v + at(b.data, i)) };
}
