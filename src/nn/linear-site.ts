import type { Parameter, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Activation } from "../ops/index.ts";
import { activate } from "./activation.ts";
import type { ForwardOptions } from "./layers.ts";
import { SiteBase, type SitePlace } from "./site-base.ts";

/** A linear layer that a site can stand around: `Linear`, or GPT-2's `Conv1D`. */
export interface AdaptableLinear {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  /** Whether the weight is stored [in, out]. Default: [out, in]. */
  readonly isTransposed?: boolean;
  forward(x: Tensor, options?: { readonly activation?: Activation }): Tensor;
}

/** A part of the outputs of a linear layer that computes several things at once. */
export interface LinearSlice {
  readonly of: AdaptableLinear;
  /** The first of its outputs. */
  readonly start: number;
  readonly outputs: number;
}

/** Changes the output y of a linear layer with input x. */
export type LinearAdaptation = (y: Tensor, x: Tensor, options: ForwardOptions) => Tensor;
/** Changes the input x of a linear layer. */
export type InputAdaptation = (x: Tensor, options: ForwardOptions) => Tensor;

/** Around a linear layer, or a slice of one. */
export class LinearSite extends SiteBase<LinearAdaptation> {
  readonly kind = "linear";
  readonly inputs: number;
  readonly outputs: number;
  /** The layer whose weight and bias the site is around, and the first of its outputs that are the site's. */
  readonly linear: AdaptableLinear;
  readonly start: number;
  readonly #isSlice: boolean;
  readonly #ofInput = new Map<string, InputAdaptation>();

  constructor(place: SitePlace, linear: AdaptableLinear | LinearSlice) {
    super(place);
    this.#isSlice = "of" in linear;
    this.linear = "of" in linear ? linear.of : linear;
    const [rows, columns] = this.linear.weight.shape as [number, number];
    this.inputs = this.linear.isTransposed ? rows : columns;
    this.start = "of" in linear ? linear.start : 0;
    this.outputs = "of" in linear ? linear.outputs : this.linear.isTransposed ? columns : rows;
  }

  override get isEmpty(): boolean {
    return super.isEmpty && this.#ofInput.size === 0;
  }

  override get attached(): readonly string[] {
    return [...new Set([...this.#ofInput.keys(), ...super.attached])];
  }

  override has(set: string): boolean {
    return super.has(set) || this.#ofInput.has(set);
  }

  /** Changes what the layer reads. A slice reads what its neighbours read, and so refuses. */
  attachInput(set: string, adaptation: InputAdaptation): void {
    if (this.#isSlice)
      throw new ShapeError(
        `site ${this.name}: its input is that of other slices too; change its output, or the layer before`,
      );
    this.#ofInput.set(set, adaptation);
  }

  override detach(set: string): void {
    super.detach(set);
    this.#ofInput.delete(set);
  }

  /** f(W x + b) with what is attached: x [..., in] -> [..., out]. Where nothing is, f is in the product's kernel. */
  forward(x: Tensor, options: ForwardOptions, activation?: Activation): Tensor {
    if (this.isEmpty) return this.linear.forward(x, activation ? { activation } : {});
    let input = x;
    for (const adapt of this.#ofInput.values()) input = adapt(input, options);
    const y = this.apply(this.linear.forward(input), input, options);
    return activation ? activate(y, activation) : y;
  }

  /** What is attached to the output alone, for a layer that is computed elsewhere. */
  apply(y: Tensor, x: Tensor, options: ForwardOptions): Tensor {
    let result = y;
    for (const adapt of this.adaptations.values()) result = adapt(result, x, options);
    return result;
  }
}
