/** Reads the files of a vocabulary and refuses broken ones: one line says what is wrong, and where. */

/** Token to id. */
export type Vocab = ReadonlyMap<string, number>;

/** The two parts of a merge. */
export type Merge = readonly [left: string, right: string];

/** `vocab.json` (GPT-2's `encoder.json`): an object from token to id. */
export function parseVocab(text: string, file = "vocab.json"): Vocab {
  return checkVocab(parseJson(text, file), file);
}

/** A JSON text, with the file's name in the error. */
export function parseJson(text: string, file: string): unknown {
  if (text.trim() === "") throw new Error(`tokenizer: ${file} is empty`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`tokenizer: ${file} is not JSON: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

/** Checks that tokens have distinct integer ids from 0 on. */
export function checkVocab(value: unknown, file: string): Vocab {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`tokenizer: ${file} holds no object from token to id`);
  }
  const vocab = new Map<string, number>();
  const tokens = new Map<number, string>();
  for (const [token, id] of Object.entries(value as Record<string, unknown>)) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      throw new Error(
        `tokenizer: ${file}: "${token}" has the id ${JSON.stringify(id)}, not an integer from 0`,
      );
    }
    const other = tokens.get(id);
    if (other !== undefined)
      throw new Error(`tokenizer: ${file}: "${other}" and "${token}" share the id ${id}`);
    vocab.set(token, id);
    tokens.set(id, token);
  }
  if (vocab.size === 0) throw new Error(`tokenizer: ${file} is empty`);
  return vocab;
}

/** `merges.txt` (GPT-2's `vocab.bpe`): one "left right" a line, after a `#version` line that may be absent. */
export function parseMerges(text: string, vocab: Vocab, file = "merges.txt"): Merge[] {
  if (text.trim() === "") throw new Error(`tokenizer: ${file} is empty`);
  const merges: Merge[] = [];
  const lines = text.split("\n");
  for (const [index, ended] of lines.entries()) {
    const line = ended.endsWith("\r") ? ended.slice(0, -1) : ended;
    if (line === "" || (index === 0 && line.startsWith("#version"))) continue;
    merges.push(checkMerge(line.split(" "), vocab, `${file} line ${index + 1}`));
  }
  return merges;
}

/** The merges of a `tokenizer.json`: strings "left right", or pairs. */
export function checkMerges(value: unknown, vocab: Vocab, file: string): Merge[] {
  if (!Array.isArray(value)) throw new Error(`tokenizer: ${file} has no list of merges`);
  return value.map((merge: unknown, index) => {
    const parts =
      typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge.map(String) : [];
    return checkMerge(parts, vocab, `${file} merge ${index + 1}`);
  });
}

function checkMerge(parts: readonly string[], vocab: Vocab, place: string): Merge {
  const [left, right] = parts;
  if (parts.length !== 2 || !left || !right) {
    throw new Error(`tokenizer: ${place}: "${parts.join(" ")}" is not "left right"`);
  }
  for (const piece of [left, right, left + right]) {
    if (!vocab.has(piece))
      throw new Error(
        `tokenizer: ${place}: "${piece}" is not in the vocabulary (are both files of one model?)`,
      );
  }
  return [left, right];
}
