import { type Gpu, knownOptions, type OptionNames, showShape } from "../array/index.ts";
import { CaptureRegion, type CommandList, GpuError } from "../gpu/index.ts";
import { copyInto } from "../ops/index.ts";
import { keep, tidy } from "./scope.ts";
import { Tensor } from "./tensor.ts";

export interface CaptureOptions {
  /**
   * Memory that several captured steps use in turn, such as one for each length of batch: `new CaptureRegion()`, given to
   * each of them. Default: a region of the step's own.
   */
  readonly region?: CaptureRegion;
}
const CAPTURE: OptionNames<CaptureOptions> = { region: true };

/** A tensor of the step's result, and where it is copied to. */
interface Place {
  readonly path: string;
  readonly result: Tensor;
}

/** A step that is recorded once and then repeated. Made by `capture`. */
export class CapturedStep<T> {
  readonly #gpu: Gpu;
  readonly #region: CaptureRegion;
  readonly #step: () => T;
  readonly #places = new Map<string, Tensor>();
  #output: { readonly value: T } | null = null;
  #list: CommandList | null = null;
  #disposed = false;

  constructor(gpu: Gpu, step: () => T, { region = new CaptureRegion() }: CaptureOptions) {
    this.#gpu = gpu;
    this.#step = step;
    this.#region = region;
    gpu.device.pool.hold(region);
  }

  /**
   * One step. The first call runs the function as it is, the second records it, and every call from the second on
   * replays what was recorded. A call that throws has changed nothing on the device after the first one; the next
   * call tries again.
   */
  run(): void {
    if (this.#disposed) throw new GpuError("capture: run() after dispose(); capture the step anew");
    const { captures } = this.#gpu.device;
    if (!this.#output) captures.warmUp(this.#region, () => this.#first());
    else {
      if (!this.#list || !captures.has(this.#list))
        this.#list = captures.record(this.#region, () => this.#again());
      captures.replay(this.#list);
    }
  }

  /**
   * What the function returned: the same tensors from the first run() on, overwritten by every run(). Reads that
   * were begun before the next run() get the values of this one.
   */
  get output(): T {
    if (!this.#output) throw new GpuError("capture: there is no output before the first run()");
    return this.#output.value;
  }

  /** Gives the memory back, the output's too. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    const { captures, pool } = this.#gpu.device;
    captures.checkOutside("dispose()");
    this.#disposed = true;
    if (this.#list) captures.discard(this.#list);
    for (const place of this.#places.values()) place.dispose();
    pool.drop(this.#region);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #first(): void {
    const places = this.#places;
    try {
      tidy(() => {
        const value = replaceTensors(this.#step(), "output", (result, path) => {
          const place = this.#placeFor(result, path);
          places.set(path, place);
          this.#store(result, place);
          return place;
        });
        this.#output = { value: value as T }; // tensors stand where tensors stood
      });
    } catch (error) {
      for (const place of places.values()) place.dispose();
      places.clear();
      throw error;
    }
  }

  #again(): void {
    tidy(() => {
      const results: Place[] = [];
      replaceTensors(this.#step(), "output", (result, path) => {
        results.push({ path, result });
        return result;
      });
      if (results.length !== this.#places.size) {
        throw new GpuError(
          `capture: the step returned ${this.#places.size} tensors at first and ${results.length} now`,
        );
      }
      for (const { path, result } of results) this.#store(result, this.#placeOf(path, result));
    });
  }

  /** Output memory is of the step's own: no step of the same region writes to it. */
  #placeFor(result: Tensor, path: string): Tensor {
    if (result.gpu !== this.#gpu)
      throw new GpuError(`capture: ${path} is a tensor of another device; a step is captured on one`);
    return this.#gpu.device.captures.outside(() =>
      keep(new Tensor(this.#gpu, this.#gpu.empty(result.shape, result.dtype))),
    );
  }

  #placeOf(path: string, result: Tensor): Tensor {
    const place = this.#places.get(path);
    if (!place?.array.hasShape(result.shape) || place.dtype !== result.dtype) {
      const before = place ? `${place.dtype} ${showShape(place.shape)}` : "nothing";
      throw new GpuError(
        `capture: ${path} was ${before} at first and is ${result.dtype} ${showShape(result.shape)} now; capture a step for each shape`,
      );
    }
    return place;
  }

  #store(result: Tensor, place: Tensor): void {
    result.array.assertAlive();
    this.#gpu.scope(
      () => copyInto(this.#gpu, result.array, place.array),
      () => [],
    );
  }
}

/**
 * A step that is recorded once and then replayed: the same commands on the same memory, without shape checks, tape,
 * allocation or anything else of the host's. Results are bit for bit those of calling the function.
 *
 * `step` is a synchronous function that does a whole step (gradients to zero, forward, backward, clipping, update)
 * on tensors from outside, and returns a tensor, or an array or record of them; those are `output`. What changes from
 * step to step lies in tensors outside, input slots, which are written before run(): batch, labels, random clock,
 * routes, learning rate (`AdamW.setLearningRate`). Numbers, shapes and branches of the function are those of the
 * second run for ever: capture a step for each shape of batch. Uploads, new tensors from values and reads inside are
 * errors. Gradients that no optimiser holds are valid until another captured step makes them anew.
 *
 * Memory that the step takes stays its own until dispose() (`capturedBytes` of the device's statistics), or until the
 * budget is exhausted: then steps that do not run give theirs back, and are recorded anew. What a step uses from
 * outside cannot be given to anybody else, and freeing that makes run() throw.
 *
 * ```ts
 * const x = tensor(gpu, [1, 2, 3]);
 * const step = capture(gpu, () => x.mul(2).sum());
 * for (const values of [[1, 2, 3], [4, 5, 6], [7, 8, 9]]) {
 *   x.write(Float32Array.from(values));
 *   step.run();
 *   print(await step.output.item()); // 12, 30, 48
 * }
 * step.dispose();
 * ```
 */
export function capture<T>(gpu: Gpu, step: () => T, options: CaptureOptions = {}): CapturedStep<T> {
  return new CapturedStep(gpu, step, knownOptions("capture", options, CAPTURE));
}

/** A copy of `value` with another tensor in the place of each. Anything else would be of one step only. */
function replaceTensors(
  value: unknown,
  path: string,
  replace: (tensor: Tensor, path: string) => Tensor,
): unknown {
  if (value === null || value === undefined) return value;
  if (value instanceof Tensor) return replace(value, path);
  if (Array.isArray(value)) return value.map((item, i) => replaceTensors(item, `${path}[${i}]`, replace));
  if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    const entries = Object.entries(value);
    return Object.fromEntries(
      entries.map(([name, item]) => [name, replaceTensors(item, `${path}.${name}`, replace)]),
    );
  }
  if (value instanceof Promise)
    throw new TypeError("capture: takes a synchronous function; read the step's output after run()");
  const what = typeof value === "object" ? value.constructor.name : typeof value;
  throw new TypeError(
    `capture: ${path} is a ${what}, which would be the recorded step's for ever; return tensors, and records and arrays of them`,
  );
}
