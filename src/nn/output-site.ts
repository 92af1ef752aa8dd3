import type { Tensor } from "../autograd/index.ts";
import type { Activation } from "../ops/index.ts";
import type { ForwardOptions } from "./layers.ts";
import { SiteBase, type SitePlace } from "./site-base.ts";

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

/** Changes the output of a sub-layer before dropout, residual and LayerNorm. */
export type OutputAdaptation = (output: SublayerOutput, options: ForwardOptions) => Tensor;

/** After a sub-layer (attention or feed-forward). */
export class OutputSite extends SiteBase<OutputAdaptation> {
  readonly kind = "output";
  readonly channels: number;
  /** The activation of the model's own feed-forward parts. Default "gelu". */
  readonly activation: Activation;

  constructor(
    place: SitePlace,
    channels: number,
    { activation = "gelu" }: { readonly activation?: Activation } = {},
  ) {
    super(place);
    this.channels = channels;
    this.activation = activation;
  }

  apply(output: SublayerOutput, options: ForwardOptions): Tensor {
    let value = output.value;
    for (const adapt of this.adaptations.values()) value = adapt({ ...output, value }, options);
    return value;
  }
}
