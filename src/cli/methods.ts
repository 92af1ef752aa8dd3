import {
  type AdapterConfig,
  adamixAdapter,
  adamixLora,
  adapter,
  type LoraConfig,
  lora,
  type PeftMethod,
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

function loraConfig({ loraDropout, ...settings }: Settings): LoraConfig {
  return { ...settings, dropout: loraDropout ?? 0 };
}
