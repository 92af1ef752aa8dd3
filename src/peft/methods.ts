import { ShapeError } from "../gpu/index.ts";
import { type AdapterConfig, adapter } from "./adapter.ts";
import { type LoraConfig, lora } from "./lora.ts";
import type { PeftMethod } from "./method.ts";

/** The methods that a saved config can name. */
export const METHODS = {
  adapter: (config: unknown): PeftMethod => adapter(config as AdapterConfig),
  lora: (config: unknown): PeftMethod => lora(config as LoraConfig),
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
