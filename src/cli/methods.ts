import {
  type AdapterConfig,
  adapter,
  bitFit,
  full,
  head,
  houlsby,
  ia3,
  type LearnedRouter,
  type LoraConfig,
  lora,
  type PeftMethod,
  type PrefixConfig,
  type PromptConfig,
  pfeiffer,
  prefix,
  prompt,
  softRouter,
  type TopLayersConfig,
  topKRouter,
  topLayers,
  unipelt,
} from "../peft/index.ts";
import type { MethodName, PeftSettings } from "./config.ts";

/** The settings of a resolved config: those of the method are there, the others are not. */
type Settings = PeftSettings & AdapterConfig & LoraConfig & PrefixConfig & TopLayersConfig;

const METHODS: Readonly<Record<MethodName, (settings: Settings) => PeftMethod>> = {
  head,
  full,
  "top-layers": topLayers,
  bitfit: bitFit,
  adapter,
  houlsby,
  pfeiffer,
  lora: loraOf,
  ia3,
  prompt: promptOf,
  prefix,
  unipelt: unipeltOf,
  "adamix-adapter": adapter,
  "adamix-houlsby": houlsby,
  "adamix-pfeiffer": pfeiffer,
  "adamix-lora": loraOf,
  "adamix-prefix": prefix,
  "adamix-unipelt": unipeltOf,
};

/** What a config's method puts into the encoder, and trains of it. */
export function methodOf({
  method,
  peft,
}: {
  readonly method: MethodName;
  readonly peft: PeftSettings | undefined;
}): PeftMethod {
  // What the router has, see routerOf, is none of the method's.
  const { router: _router, routing: _routing, topK: _topK, balance: _balance, ...own } = peft ?? {};
  return METHODS[method](own as Settings); // resolveConfig has filled in the method's own
}

function loraOf({ loraDropout, ...settings }: Settings): PeftMethod {
  return lora({ ...settings, dropout: loraDropout ?? 0 });
}

function promptOf({ tokens, promptInit, initStd }: Settings): PeftMethod {
  const options: Omit<PromptConfig, "tokens"> = {
    ...(promptInit && { init: promptInit }),
    ...(initStd !== undefined && { initStd }),
  };
  return prompt({ tokens, ...options });
}

/** One setting of a name serves every part that has it. */
function unipeltOf(settings: Settings): PeftMethod {
  const {
    parts = [],
    bottleneck,
    tokens,
    rank,
    alpha,
    loraDropout = 0,
    experts = 1,
    share = "up",
  } = settings;
  return unipelt({
    ...(parts.includes("adapter") && { adapter: { bottleneck } }),
    ...(parts.includes("prefix") && { prefix: { tokens } }),
    ...(parts.includes("lora") && {
      lora: { rank, dropout: loraDropout, ...(alpha !== undefined && { alpha }) },
    }),
    experts,
    share,
  });
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
