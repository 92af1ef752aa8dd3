import type { Tensor } from "../autograd/index.ts";
import type { ForwardOptions, Linear } from "./layers.ts";

/** LayerNorm, or what a model has in its place. */
export interface Normalisation {
  forward(x: Tensor): Tensor;
}

/**
 * What an adaptation after a sub-layer sees: the sub-layer's output, what is added to it, and the sub-layer's own
 * normalisation: of the sum (BERT's family), or of its input (pre-normalised decoders).
 */
export interface SublayerOutput {
  readonly value: Tensor;
  readonly residual: Tensor;
  readonly layerNorm: Normalisation;
}

/** Sizes of a linear map that is no `Linear` of its own: a slice of a fused one. */
export interface LinearSizes {
  readonly inputs: number;
  readonly outputs: number;
}

/** Changes the output y of a linear layer with input x. */
export type LinearAdaptation = (y: Tensor, x: Tensor, options: ForwardOptions) => Tensor;
/** Changes the output of a sub-layer before dropout, residual and LayerNorm. */
export type OutputAdaptation = (output: SublayerOutput, options: ForwardOptions) => Tensor;

interface Place {
  /** Dotted, as in the checkpoint: `roberta.encoder.layer.0.attention.self.query`. */
  readonly name: string;
  /** Number of the Transformer layer: adaptations of one layer may share a draw. */
  readonly layer: number;
}

/**
 * A place of a model where adaptations go. The model calls it and knows nothing of what is there.
 * Adaptations are held by the name of their set, in the order of attaching.
 */
abstract class SiteBase<F> implements Place {
  readonly name: string;
  readonly layer: number;
  protected readonly adaptations = new Map<string, F>();

  constructor({ name, layer }: Place) {
    this.name = name;
    this.layer = layer;
  }

  /** Whether nothing is attached: a fused kernel may do what the site would see in parts. */
  get isEmpty(): boolean {
    return this.adaptations.size === 0;
  }

  /** Whether something is attached under the name of a set. */
  has(set: string): boolean {
    return this.adaptations.has(set);
  }

  attach(set: string, adaptation: F): void {
    this.adaptations.set(set, adaptation);
  }

  /** Puts something around what is attached under a set's name. */
  wrap(set: string, around: (inner: F) => F): void {
    const inner = this.adaptations.get(set);
    if (inner) this.adaptations.set(set, around(inner));
  }

  detach(set: string): void {
    this.adaptations.delete(set);
  }
}

/** Around a linear layer. */
export class LinearSite extends SiteBase<LinearAdaptation> {
  readonly kind = "linear";
  readonly inputs: number;
  readonly outputs: number;

  constructor(place: Place, linear: Linear | LinearSizes) {
    super(place);
    if ("weight" in linear) [this.outputs, this.inputs] = linear.weight.shape as [number, number];
    else ({ inputs: this.inputs, outputs: this.outputs } = linear);
  }

  apply(y: Tensor, x: Tensor, options: ForwardOptions): Tensor {
    let result = y;
    for (const adapt of this.adaptations.values()) result = adapt(result, x, options);
    return result;
  }
}

/** After a sub-layer (attention or feed-forward). */
export class OutputSite extends SiteBase<OutputAdaptation> {
  readonly kind = "output";
  readonly channels: number;

  constructor(place: Place, channels: number) {
    super(place);
    this.channels = channels;
  }

  apply(output: SublayerOutput, options: ForwardOptions): Tensor {
    let value = output.value;
    for (const adapt of this.adaptations.values()) value = adapt({ ...output, value }, options);
    return value;
  }
}

export type Site = LinearSite | OutputSite;
