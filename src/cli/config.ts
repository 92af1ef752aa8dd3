import { z } from "zod";
import { GLUE_TASKS } from "../data/index.ts";

/** Tasks by name: GLUE's, the embedded one, and files of one's own. */
export const TASKS = [...Object.keys(GLUE_TASKS), "sentiment", "text"];

export const METHOD_NAMES = [
  "head",
  "full",
  "top-layers",
  "bitfit",
  "adapter",
  "houlsby",
  "pfeiffer",
  "lora",
  "ia3",
  "prompt",
  "prefix",
  "unipelt",
  "adamix-adapter",
  "adamix-houlsby",
  "adamix-pfeiffer",
  "adamix-lora",
  "adamix-prefix",
  "adamix-unipelt",
] as const;
export type MethodName = (typeof METHOD_NAMES)[number];

const count = z.int().min(1);
const share = z.number().min(0).lt(1);
const positive = z.number().gt(0);
const notNegative = z.number().min(0);
const path = z.string().min(1);
const column = z.union([z.string().min(1), z.int().min(0)], { error: "expected a name or an index from 0" });
const labelName = z.union([z.string(), z.number()], { error: "expected a name" }).transform(String);

const dataPaths = z.strictObject({ train: path.optional(), dev: path.optional(), test: path.optional() });
const columns = z.strictObject({
  text: column.optional(),
  pair: column.optional(),
  label: column.optional(),
});

const peft = z.strictObject({
  bottleneck: count.optional(),
  activation: z.enum(["gelu", "geluTanh", "relu", "silu", "tanh", "sigmoid"]).optional(),
  initStd: notNegative.optional(),
  rank: count.optional(),
  alpha: positive.optional(),
  rankStabilised: z.boolean().optional(),
  loraDropout: share.optional(),
  init: z.enum(["distinct", "authors"]).optional(),
  experts: count.optional(),
  share: z.enum(["up", "down", "none"]).optional(),
  router: z.enum(["drawn", "soft", "top-k"]).optional(),
  routing: z.enum(["batch", "example", "token"]).optional(),
  topK: count.optional(),
  balance: notNegative.optional(),
  targets: z.array(z.string().min(1)).min(1).optional(),
  layers: count.optional(),
  tokens: count.optional(),
  promptInit: z.enum(["words", "normal"]).optional(),
  parts: z
    .array(z.enum(["adapter", "prefix", "lora"]))
    .min(1)
    .optional(),
});

const training = z.strictObject({
  epochs: positive.optional(),
  steps: count.optional(),
  batchSize: count.optional(),
  lr: positive.optional(),
  warmupRatio: z.number().min(0).max(1).optional(),
  weightDecay: notNegative.optional(),
  clipNorm: positive.nullable().optional(),
  dropout: share.nullable().optional(),
  maxLength: z.int().min(3).nullable().optional(),
  seed: z.int().min(0).max(0xffffffff).optional(),
  limitTrain: count.nullable().optional(),
  evaluateEverySteps: count.nullable().optional(),
  undrawn: z.enum(["authors", "zeroGrad", "skip"]).optional(),
  passesInOneBatch: z.boolean().nullable().optional(),
});

const consistency = z.strictObject({
  weight: notNegative.optional(),
  gradient: z.enum(["detached", "full"]).optional(),
  taskPasses: z.enum(["first", "both"]).optional(),
  warmupSteps: z.int().min(0).optional(),
  regression: z.enum(["none", "mse"]).optional(),
});

/** What a config file and the flags may say. Everything that is left out takes a default: see presets.ts. */
export const configSchema = z.strictObject({
  model: path.optional(),
  task: z.enum(TASKS),
  data: z
    .union([path, dataPaths], { error: "expected a folder, or files under train, dev, test" })
    .nullable()
    .optional(),
  labels: z.array(labelName).min(1).optional(),
  columns: columns.optional(),
  pooling: z.enum(["cls", "mean"]).nullable().optional(),
  method: z.enum(METHOD_NAMES),
  dtype: z.enum(["f32", "f16", "bf16"]).optional(),
  peft: peft.optional(),
  training: training.optional(),
  consistency: consistency.optional(),
  tune: z.boolean().optional(),
  kernels: path.nullable().optional(),
  out: path.optional(),
  force: z.boolean().optional(),
});

export type ConfigInput = z.infer<typeof configSchema>;
export type PeftSettings = z.infer<typeof peft>;
export type TrainingSettings = z.infer<typeof training>;
export type ConsistencySettings = z.infer<typeof consistency>;
export type DataPaths = z.infer<typeof dataPaths>;
export type Columns = z.infer<typeof columns>;

/** Keys by section, for messages: "" is the top. */
export const CONFIG_KEYS: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(configSchema.shape),
  data: Object.keys(dataPaths.shape),
  columns: Object.keys(columns.shape),
  peft: Object.keys(peft.shape),
  training: Object.keys(training.shape),
  consistency: Object.keys(consistency.shape),
};

const ADAPTER_KEYS = ["bottleneck", "activation", "initStd", "targets"] as const;
const LORA_KEYS = ["rank", "alpha", "rankStabilised", "loraDropout", "targets"] as const;
const PREFIX_KEYS = ["tokens", "bottleneck", "initStd"] as const;
const UNIPELT_KEYS = ["parts", "bottleneck", "tokens", "rank", "alpha", "loraDropout"] as const;
const MIXTURE_KEYS = ["experts", "share", "router", "routing", "topK", "balance"] as const;

/** The settings of `peft` that each method has. */
export const METHOD_KEYS: Readonly<Record<MethodName, readonly (keyof PeftSettings)[]>> = {
  head: [],
  full: [],
  "top-layers": ["layers"],
  bitfit: [],
  adapter: ADAPTER_KEYS,
  houlsby: ADAPTER_KEYS,
  pfeiffer: ADAPTER_KEYS,
  lora: LORA_KEYS,
  ia3: ["targets"],
  prompt: ["tokens", "promptInit", "initStd"],
  prefix: PREFIX_KEYS,
  unipelt: UNIPELT_KEYS,
  "adamix-adapter": [...ADAPTER_KEYS, ...MIXTURE_KEYS],
  "adamix-houlsby": [...ADAPTER_KEYS, ...MIXTURE_KEYS],
  "adamix-pfeiffer": [...ADAPTER_KEYS, ...MIXTURE_KEYS],
  "adamix-lora": [...LORA_KEYS, "init", ...MIXTURE_KEYS],
  "adamix-prefix": [...PREFIX_KEYS, ...MIXTURE_KEYS],
  "adamix-unipelt": [...UNIPELT_KEYS, ...MIXTURE_KEYS],
};

export function isMixture(method: MethodName): boolean {
  return METHOD_KEYS[method].includes("experts");
}
