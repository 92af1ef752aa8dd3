import { FormatError } from "../io/index.ts";
import { BERT } from "./bert.ts";
import type { ModelFamily, ModelHead, ModelTask, TaskModels } from "./family.ts";
import { GPT2 } from "./gpt2.ts";
import { LLAMA, QWEN2 } from "./llama.ts";
import { ROBERTA } from "./roberta.ts";

/** The families that can be opened: a new one is a file of its own and a row here. */
export const MODEL_FAMILIES: readonly ModelFamily[] = [BERT, ROBERTA, GPT2, LLAMA, QWEN2];

/** The family of a config.json, by its `model_type`. */
export function modelFamily(json: unknown): ModelFamily {
  const isObject = typeof json === "object" && json !== null && !Array.isArray(json);
  const config = isObject ? (json as Record<string, unknown>) : null;
  if (!config) throw new FormatError("config: not a JSON object");
  const type = config.model_type ?? null;
  const found = MODEL_FAMILIES.find(
    ({ modelType, otherTypes = [] }) =>
      modelType === type || otherTypes.some((other) => other === (type ?? config.model)),
  );
  if (found) return found;
  const given = type === null ? 'no "model_type"' : `model_type is ${JSON.stringify(type)}`;
  const known = MODEL_FAMILIES.map(({ modelType }) => JSON.stringify(modelType)).join(", ");
  throw new FormatError(`config: ${given}; supported: ${known}`);
}

/** The model of a family for a task. */
export function modelHead<Task extends ModelTask>(
  family: ModelFamily,
  task: Task,
): ModelHead<unknown, TaskModels[Task]> {
  const head = family.heads[task];
  if (head) return head;
  const tasks = Object.keys(family.heads).join(", ");
  const others = MODEL_FAMILIES.filter(({ heads }) => heads[task]).map(({ modelType }) => modelType);
  throw new FormatError(
    `model: ${family.modelType} has no model for ${task}; it has ${tasks}, and ${others.join(", ")} have ${task}`,
  );
}
