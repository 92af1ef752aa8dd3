import type { Parameter } from "../autograd/index.ts";
import { writeFileAtomic } from "../platform/index.ts";
import { encodeSafetensors } from "./safetensors.ts";
import { type LoadOptions, readStateDict, streamStateDict } from "./state-dict.ts";
import { openTensorFile } from "./tensor-file.ts";

/** Whatever has parameters with names: a Module, an AdaptationSet. */
interface Named {
  namedParameters(): Iterable<[string, Parameter]>;
}

/**
 * Writes all parameters, each in the type that it is stored in, as one safetensors file, which has its name when it is
 * whole. `metadata` is kept in its header.
 */
export async function saveParameters(
  path: string,
  of: Named,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const entries = await readStateDict(of.namedParameters());
  writeFileAtomic(path, encodeSafetensors(entries, { format: "pt", ...metadata }));
}

/**
 * Reads parameters by their names from a `.safetensors` or PyTorch file. Strict: a FormatError lists every missing,
 * unexpected and misshapen name, and nothing is written; `options` says which may be absent or ignored. Returns the
 * names that the file lacked.
 */
export async function loadParameters(
  path: string,
  into: Named,
  options: Omit<LoadOptions, "what"> = {},
): Promise<string[]> {
  const file = openTensorFile(path);
  try {
    return await streamStateDict(new Map(into.namedParameters()), file.tensors, { what: path, ...options });
  } finally {
    file.close();
  }
}
