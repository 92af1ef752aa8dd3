import { type AdapterConfig, adapter } from "./adapter.ts";
import { type LoraConfig, lora } from "./lora.ts";
import type { PeftMethod } from "./method.ts";

/** AdaMix over adapters: M experts (default 4) in each layer, the up-projection shared. Paper: section 3. */
export function adamixAdapter(config: AdapterConfig): PeftMethod {
  return adapter({ experts: 4, share: "up", ...config });
}

/** AdaMix over LoRA: M experts (default 4) in each layer, B shared. Paper: section 3. */
export function adamixLora(config: LoraConfig): PeftMethod {
  return lora({ experts: 4, share: "up", ...config });
}
