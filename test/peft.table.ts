// Methods that test/peft.test.ts crosses with the models of peft-families.ts: a method is one row here.
import { type Parameter, Stream } from "../src/autograd/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  adapter,
  bitFit,
  full,
  head,
  houlsby,
  ia3,
  lora,
  type PeftMethod,
  pfeiffer,
  prefix,
  prompt,
  type Share,
  topLayers,
  unipelt,
} from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";
import type { TestModel } from "./peft-families.ts";

export {
  LONGEST,
  type ModelFamily,
  modelFamilies,
  type TestModel,
  tinyConfig,
  tinyInput,
  tinyLabels,
} from "./peft-families.ts";

const gpu = await testGpu();

export interface PeftRow {
  readonly name: string;
  /** The method, with its own number of experts or another one. */
  make(options?: { readonly experts?: number }): PeftMethod;
  /** Of a mixture: the same method without experts. */
  readonly plain?: () => PeftMethod;
  /** Whether a fresh set leaves the model's output as it is. */
  readonly isIdentity: boolean;
  /** Whether it puts something at sites; else it trains the model itself. */
  readonly adds: boolean;
  /** The share that a second file of models need not repeat: it differs in banks alone. */
  readonly once?: boolean;
}

const ADAPTER = { bottleneck: 3 };
const LORA = { rank: 2, alpha: 3 };
const EXPERTS = 3;
const EVERYWHERE = [
  "query",
  "key",
  "value",
  "attentionOutput",
  "feedForwardInner",
  "feedForwardOutput",
] as const;
const PREFIX = { tokens: 2, bottleneck: 3 };
const UNIPELT = { adapter: ADAPTER, prefix: { tokens: 2 }, lora: LORA };

function plain(name: string, make: () => PeftMethod, isIdentity = false): PeftRow {
  return { name, make, isIdentity, adds: true };
}

function training(name: string, make: () => PeftMethod): PeftRow {
  return { name, make, isIdentity: true, adds: false };
}

function mixture(
  name: string,
  make: (options: { readonly experts: number }) => PeftMethod,
  { isIdentity = false, once = false } = {},
): PeftRow {
  return {
    name,
    make: ({ experts = EXPERTS } = {}) => make({ experts }),
    plain: () => make({ experts: 1 }),
    isIdentity,
    adds: true,
    once,
  };
}

function shared(share: Share): PeftRow[] {
  const once = share !== "up";
  return [
    {
      ...mixture(`adamix adapter, share ${share}`, (m) => adamixAdapter({ ...ADAPTER, ...m, share }), {
        once,
      }),
      plain: () => adapter(ADAPTER),
    },
    {
      ...mixture(`adamix lora, share ${share}`, (m) => adamixLora({ ...LORA, ...m, share }), {
        isIdentity: true,
        once,
      }),
      plain: () => lora(LORA),
    },
  ];
}

export const peftTable: readonly PeftRow[] = [
  // N(0, 0.02) in the up-projection too: no identity.
  plain("adapter", () => adapter(ADAPTER)),
  plain("houlsby", () => houlsby(ADAPTER)),
  plain("pfeiffer", () => pfeiffer(ADAPTER)),
  plain("lora", () => lora(LORA), true),
  plain("lora everywhere", () => lora({ ...LORA, rankStabilised: true, targets: EVERYWHERE }), true),
  plain("ia3", () => ia3(), true),
  plain("prompt", () => prompt({ tokens: 2 })),
  plain("prefix", () => prefix({ tokens: 2 })),
  plain("prefix of two layers", () => prefix(PREFIX)),
  plain("unipelt", () => unipelt(UNIPELT)),
  training("full", full),
  training("head", head),
  training("top layers", () => topLayers({ layers: 1 })),
  training("bitfit", bitFit),
  ...(["up", "down", "none"] as const).flatMap(shared),
  mixture("adamix houlsby", (m) => houlsby({ ...ADAPTER, ...m })),
  mixture("adamix lora everywhere", (m) => lora({ ...LORA, ...m, targets: EVERYWHERE }), {
    isIdentity: true,
  }),
  mixture("adamix prefix", (m) => prefix({ ...PREFIX, ...m })),
  mixture("adamix unipelt", (m) => unipelt({ ...UNIPELT, ...m })),
];

/** Fills a set with numbers that are far from any initialisation, the same for the same stream. */
export function scramble(set: AdaptationSet, seed = 5): AdaptationSet {
  const stream = Stream.seed(seed);
  for (const [name, parameter] of set.namedParameters())
    parameter.write(stream.fold(name).normal(parameter.size, 0, 0.4));
  return set;
}

/** A set on a model, with the initialisation of seed 1. */
export function attachTo({ model }: TestModel, method: PeftMethod, name = "default"): AdaptationSet {
  return new AdaptationSet(gpu, model, method, { name, stream: Stream.seed(1) });
}

/** The bytes of some parameters, by name. */
export async function bytesOf(
  parameters: Iterable<readonly [string, Parameter]>,
): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const bytes = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [name, parameter] of parameters)
    bytes.set(name, (await parameter.data()) as Float32Array<ArrayBuffer>);
  return bytes;
}
