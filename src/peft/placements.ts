// The two published placements of adapters, as settings of `adapter`. Paper: section 2.2.
import { type AdapterConfig, adapter } from "./adapter.ts";
import type { PeftMethod } from "./method.ts";

/**
 * Adapters of Pfeiffer et al. (2021): one in each layer, y = LN(h + up(relu(down(LN(h + x)))) + x), h the
 * feed-forward output, x what it is added to, both LN the layer's own.
 */
export function pfeiffer(config: AdapterConfig): PeftMethod {
  return adapter({ activation: "relu", input: "normalised", ...config });
}

/**
 * Adapters of Houlsby et al. (2019): two in each layer, after the attention's output dense and after that of the
 * feed-forward part, f(h) = h + up(silu(down(h))).
 */
export function houlsby(config: AdapterConfig): PeftMethod {
  return adapter({ activation: "silu", targets: ["attention", "feedForward"], ...config });
}
