import {
  type AdapterConfig,
  adamixAdapter,
  adamixLora,
  adapter,
  type LearnedRouter,
  type LoraConfig,
  lora,
  type PeftMethod,
  softRouter,
  topKRouter,
} from "../peft/index.ts";
import type { MethodName, PeftSettings } from "./config.ts";

/** The settings of a resolved config: those of the method are there, the others are not. */
type Settings = PeftSettings & AdapterConfig & LoraConfig;

const METHODS: Readonly<Record<MethodName, (settings: Settings) => PeftMethod | null>> = {
  head: () => null,
  full: () => null,
  adapter,
  lora: (settings) => lora(loraConfig(settings)),
  "adamix-adapter": adamixAdapter,
  "adamix-lora": (settings) => adamixLora(loraConfig(settings)),
};

/** What a config's method puts into the encoder; null where it puts nothing. */
export function methodOf({
  method,
  peft,
}: {
  readonly method: MethodName;
  readonly peft: PeftSettings | undefined;
}): PeftMethod | null {
  return METHODS[method]((peft ?? {}) as Settings); // resolveConfig has filled in the method's own
}

/** The router with parameters that a config asks for; null: routes are drawn, or there is nothing to choose. */
export function routerOf({ peft }: { readonly peft: PeftSettings | undefined }): LearnedRouter | null {
  switch (peft?.router) {
    case "soft":
      return softRouter();
    case "top-k": {
      const { topK: k = 2, balance = 0.01 } = peft;
      return topKRouter({ k, balance });
    }
    default:
      return null;
  }
}

function loraConfig({ loraDropout, ...settings }: Settings): LoraConfig {
  return { ...settings, dropout: loraDropout ?? 0 };
}
