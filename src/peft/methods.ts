import { ShapeError } from "../gpu/index.ts";
import { type AdapterConfig, adapter } from "./adapter.ts";
import { bitFit, full, head, type TopLayersConfig, topLayers } from "./base-training.ts";
import { type Ia3Config, ia3 } from "./ia3.ts";
import { type LoraConfig, lora } from "./lora.ts";
import type { PeftMethod } from "./method.ts";
import { type PrefixConfig, prefix } from "./prefix.ts";
import { type PromptConfig, prompt } from "./prompt.ts";
import { type UnipeltConfig, unipelt } from "./unipelt.ts";

/** The methods that a saved config can name. */
export const METHODS = {
  adapter: (config: unknown): PeftMethod => adapter(config as AdapterConfig),
  bitFit: (): PeftMethod => bitFit(),
  full: (): PeftMethod => full(),
  head: (): PeftMethod => head(),
  ia3: (config: unknown): PeftMethod => ia3(config as Ia3Config),
  lora: (config: unknown): PeftMethod => lora(config as LoraConfig),
  prefix: (config: unknown): PeftMethod => prefix(config as PrefixConfig),
  prompt: (config: unknown): PeftMethod => prompt(config as PromptConfig),
  topLayers: (config: unknown): PeftMethod => topLayers(config as TopLayersConfig),
  unipelt: (config: unknown): PeftMethod => unipelt(config as UnipeltConfig),
} as const;

/** The method of a saved config: the `config` of a PeftMethod, back from JSON. Values are checked by the method. */
export function methodFromConfig(config: Readonly<Record<string, unknown>>): PeftMethod {
  const { method, ...settings } = config;
  const make = Object.hasOwn(METHODS, String(method)) ? METHODS[method as keyof typeof METHODS] : null;
  if (!make)
    throw new ShapeError(
      `adapter_config: method ${JSON.stringify(method)} is not one of ${Object.keys(METHODS).join(", ")}`,
    );
  return make(settings);
}
