import type { Gpu } from "../array/index.ts";
import { indexSelect, Stream, type Tensor, tensor, tidy } from "../autograd/index.ts";
import {
  type AdapterFile,
  asRaw,
  expertsIn,
  HEAD,
  readAdapterFile,
  stackAdapters,
  type TaskStack,
} from "../formats/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { FormatError, loadStateDict } from "../io/index.ts";
import type { EncoderInput, SequenceClassifier } from "../models/index.ts";
import { countParameters, type ForwardOptions, type Module } from "../nn/index.ts";
import { AdaptationSet, methodFromConfig } from "../peft/index.ts";

interface Task {
  readonly file: AdapterFile;
  /** Null where nothing but a head was trained. */
  readonly set: AdaptationSet | null;
  /** Null: the model's own. */
  readonly head: Module | null;
}

/** A stack on the device; which expert each task is. */
interface LoadedStack {
  readonly set: AdaptationSet;
  readonly experts: ReadonlyMap<string, number>;
}

/** Rows of a batch that belong to one adapter, and their logits [rows, classes]. */
export interface TaskLogits {
  /** Null: the model without an adapter, and its own head. */
  readonly name: string | null;
  readonly rows: readonly number[];
  readonly logits: Tensor;
}

/** What is held, in bytes of f32. */
export interface AdapterMemory {
  /** The model without any adapter, as it is stored. */
  readonly baseBytes: number;
  readonly tasks: readonly {
    readonly name: string;
    readonly method: string;
    readonly adapterBytes: number;
    readonly headBytes: number;
  }[];
  /** The stacks of the last mixed batch, beside the adapters themselves. */
  readonly stackBytes: number;
}

/**
 * Many tasks on one frozen classifier: adapters by name, each with a head of its own, side by side in memory. One or
 * several can be active, and a batch may hold rows of different tasks.
 *
 *     const adapters = new Adapters(gpu, model);
 *     adapters.load("sst2", "runs/sst2/merged").load("rte", "runs/rte/merged");
 *     const logits = adapters.activate("rte").forward(input);
 *     for (const { name, rows, logits } of adapters.forwardRows(input, ["sst2", "rte", null])) ...
 */
export class Adapters {
  readonly #gpu: Gpu;
  readonly model: SequenceClassifier;
  readonly #tasks = new Map<string, Task>();
  #active: readonly string[] = [];
  #stacks: readonly LoadedStack[] | null = null;

  constructor(gpu: Gpu, model: SequenceClassifier) {
    this.#gpu = gpu;
    this.model = model;
  }

  get names(): string[] {
    return [...this.#tasks.keys()];
  }

  /** Those that `forward` uses, in the order in which they are applied. */
  get active(): readonly string[] {
    return this.#active;
  }

  /** Takes in a merged adapter under a name: a folder of saveAdapter or importAdapter, or such a file already read. */
  load(name: string, from: string | AdapterFile): this {
    if (this.#tasks.has(name))
      throw new FormatError(`adapters: "${name}" is loaded already; unload it, or take another name`);
    const file = typeof from === "string" ? readAdapterFile(from) : from;
    const experts = expertsIn(file);
    if (experts > 1)
      throw new FormatError(
        `adapters: "${name}" holds ${experts} experts; load one that is merged (a run's merged/)`,
      );
    const set = file.config.peft ? this.#loadSet(name, file) : null;
    try {
      this.#tasks.set(name, { file, set, head: this.#loadHead(name, file, set) });
    } catch (error) {
      set?.dispose();
      throw error;
    }
    this.#dropStacks();
    return this;
  }

  /** Forgets an adapter and gives its memory back. */
  unload(name: string): void {
    const { set, head } = this.#task(name);
    if (this.#active.includes(name)) this.activate(...this.#active.filter((other) => other !== name));
    set?.dispose();
    head?.dispose();
    this.#tasks.delete(name);
    this.#dropStacks();
  }

  /** Puts adapters into the model, several stacked in this order, in place of those before; none: the base alone. */
  activate(...names: readonly string[]): this {
    const tasks = names.map((name) => this.#task(name));
    for (const name of this.#active) this.#task(name).set?.detach();
    for (const { set } of tasks) set?.attach();
    this.#active = names;
    return this;
  }

  /** [B, T] -> logits [B, classes] with the active adapters, by the head of the last one that has one. */
  forward(input: EncoderInput, options: ForwardOptions = {}): Tensor {
    const heads = this.#active.flatMap((name) => this.#task(name).head ?? []);
    const { model } = this;
    return tidy(() =>
      model.classify(model.hidden(input, options), input, options, heads.at(-1) ?? model.head),
    );
  }

  /**
   * One pass over a batch whose rows belong to different adapters: rows[i] names that of row i, null is the base with
   * the model's own head. Each row's logits are those of its own adapter alone. What is active does not matter.
   */
  forwardRows(
    input: EncoderInput,
    rows: readonly (string | null)[],
    options: ForwardOptions = {},
  ): TaskLogits[] {
    const batch = input.inputIds.shape[0] as number;
    if (rows.length !== batch)
      throw new ShapeError(`adapters: ${rows.length} names for a batch of ${batch} rows; give one for each`);
    const byName = new Map<string | null, number[]>();
    for (const [i, name] of rows.entries()) {
      if (name !== null) this.#task(name);
      byName.set(name, [...(byName.get(name) ?? []), i]);
    }
    const hidden = this.#hiddenOfRows(input, rows, options);
    const results = [...byName].map(([name, own]) => {
      const head = (name === null ? null : this.#task(name).head) ?? this.model.head;
      return { name, rows: own, logits: this.#classifyRows(hidden, input, own, head, options) };
    });
    hidden.dispose();
    return results;
  }

  memory(): AdapterMemory {
    const bytes = (parts: Iterable<Module | AdaptationSet | null>): number => {
      let sum = 0;
      for (const part of parts) sum += 4 * countParameters(part?.parameters() ?? []);
      return sum;
    };
    return {
      baseBytes: this.model.parameters().reduce((sum, { array }) => sum + array.bytes, 0),
      tasks: [...this.#tasks].map(([name, { set, head }]) => ({
        name,
        method: set?.method.name ?? "head",
        adapterBytes: bytes([set]),
        headBytes: bytes([head]),
      })),
      stackBytes: bytes((this.#stacks ?? []).map(({ set }) => set)),
    };
  }

  dispose(): void {
    this.activate();
    for (const name of this.names) this.unload(name);
  }

  #task(name: string): Task {
    const task = this.#tasks.get(name);
    if (task) return task;
    throw new FormatError(`adapters: "${name}" is not loaded; there are ${this.names.join(", ") || "none"}`);
  }

  #loadSet(name: string, { config, tensors }: AdapterFile): AdaptationSet {
    const method = methodFromConfig(config.peft ?? {});
    const stream = Stream.seed(0);
    const set = new AdaptationSet(this.#gpu, this.model, method, { name, stream, attached: false });
    try {
      const own = new Map(set.namedParameters());
      const wanted = new Map([...tensors].filter(([key]) => own.has(key)));
      loadStateDict(own, asRaw(wanted), { what: `adapter "${name}"` });
      for (const parameter of set.parameters()) parameter.requiresGrad = false;
      return set;
    } catch (error) {
      set.dispose();
      throw error;
    }
  }

  /** What is of the model itself: a head, or the reason why the adapter cannot share the model. */
  #loadHead(name: string, { config, tensors }: AdapterFile, set: AdaptationSet | null): Module | null {
    const own = new Set([...(set?.namedParameters() ?? [])].map(([key]) => key));
    const ofModel = new Map([...tensors].filter(([key]) => !own.has(key)));
    if (ofModel.size === 0) return null;
    const strange = [...ofModel.keys()].filter((key) => !HEAD.test(key));
    if (strange.length > 0)
      throw new FormatError(
        `adapters: "${name}" holds ${strange.slice(0, 3).join(", ")}${strange.length > 3 ? ", ..." : ""}, which this model has not, or others share; load it alone with loadAdapter`,
      );
    const head = this.model.newHead(config.labels.length);
    try {
      const parameters = new Map(head.namedParameters("classifier."));
      loadStateDict(parameters, asRaw(ofModel), { what: `head of adapter "${name}"` });
      head.setRequiresGrad(false);
      return head;
    } catch (error) {
      head.dispose();
      throw error;
    }
  }

  #hiddenOfRows(input: EncoderInput, rows: readonly (string | null)[], options: ForwardOptions): Tensor {
    const stacks = this.#loadedStacks();
    for (const name of this.#active) this.#task(name).set?.detach();
    try {
      for (const { set, experts } of stacks) {
        set.attach();
        const chosen = rows.map((name) => (name === null ? 0 : (experts.get(name) ?? 0)));
        set.routes.draw(({ group }) => chosen[group] ?? 0, { step: 0, passes: 1, groups: rows.length });
      }
      return this.model.hidden(input, options);
    } finally {
      for (const { set } of stacks) set.detach();
      for (const name of this.#active) this.#task(name).set?.attach();
    }
  }

  #classifyRows(
    hidden: Tensor,
    { poolingWeights }: EncoderInput,
    rows: readonly number[],
    head: Module,
    options: ForwardOptions,
  ): Tensor {
    return tidy(() => {
      const index = tensor(this.#gpu, Int32Array.from(rows));
      const own = (x: Tensor): Tensor => indexSelect(x, 0, index);
      const weights = poolingWeights ? own(poolingWeights) : null;
      return this.model.classify(own(hidden), { poolingWeights: weights }, options, head);
    });
  }

  #loadedStacks(): readonly LoadedStack[] {
    this.#stacks ??= stackAdapters(new Map([...this.#tasks].map(([name, { file }]) => [name, file]))).map(
      (stack, i) => this.#loadStack(stack, i),
    );
    return this.#stacks;
  }

  #loadStack({ names, file }: TaskStack, i: number): LoadedStack {
    const set = this.#loadSet(`rows of several tasks, ${i}`, file);
    return { set, experts: new Map(names.map((name, j) => [name, j + 1])) };
  }

  #dropStacks(): void {
    for (const { set } of this.#stacks ?? []) set.dispose();
    this.#stacks = null;
  }
}
