// What files of other formats have no place for, as notes in the metadata of their safetensors: texts by name.
import { FormatError, readSafetensors } from "../io/index.ts";
import { joinPath, openFile, packageRoot, readText } from "../platform/index.ts";
import type { AdapterConfigFile } from "./adapter-file.ts";
import type { HostTensors } from "./host-tensor.ts";

/** Provenance as metadata: who wrote it, base, method, classes, seed, and what was merged. */
export function notesOf(config: AdapterConfigFile): Record<string, string> {
  const { base, labels, peft, seed, task, mergedFrom } = config;
  const notes: Record<string, unknown> = {
    adamix: packageVersion(),
    base,
    method: peft?.method,
    labels: labels.length > 0 ? labels : undefined,
    task,
    seed,
    mergedFrom,
  };
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(notes)) {
    if (value === undefined || value === null) continue;
    texts[name] = typeof value === "string" ? value : JSON.stringify(value);
  }
  return texts;
}

/** The notes of a safetensors file that an export wrote; nothing from other files. */
export function fromNotes(path: string): { readonly labels?: readonly string[] } {
  if (!path.endsWith(".safetensors")) return {};
  const file = openFile(path);
  try {
    const { adamix, labels } = readSafetensors(file).metadata;
    return adamix !== undefined && labels !== undefined ? { labels: JSON.parse(labels) as string[] } : {};
  } finally {
    file.close();
  }
}

/** What the config of an imported adapter says about its head. */
export interface HeadProvenance {
  readonly labels: readonly string[];
  /** Heads of other tools read the first token, whatever the base model's own config says. */
  readonly overrides?: { readonly classifier_pooling: "cls" };
}

/** Names of the classes of the head among trained tensors; none where there is no head. */
export function headProvenance(trained: HostTensors, given: readonly string[] | undefined): HeadProvenance {
  // The last matrix, [classes, C]: of RoBERTa, or of BERT.
  const output = trained.get("classifier.out_proj.weight") ?? trained.get("classifier.weight");
  if (!output) return { labels: given ?? [] };
  const count = output.shape[0] ?? 0;
  if (given && given.length !== count) {
    throw new FormatError(
      `import: ${given.length} labels (${given.join(", ")}) for a head of ${count} classes; give one for each`,
    );
  }
  return {
    labels: given ?? Array.from({ length: count }, (_, i) => `LABEL_${i}`),
    overrides: { classifier_pooling: "cls" },
  };
}

export function packageVersion(): string {
  return (JSON.parse(readText(joinPath(packageRoot(), "package.json"))) as { readonly version: string })
    .version;
}
