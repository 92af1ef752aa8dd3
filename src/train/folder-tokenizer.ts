import {
  bpeTokenizer,
  scoredTokenizer,
  type Tokenizer,
  tokenizerFromJson,
  wordPieceTokenizer,
} from "../data/index.ts";
import { FormatError } from "../io/index.ts";
import { exists, joinPath, readBytes, readText } from "../platform/index.ts";

/** What a folder's tokenizer is read from, the first that is there. */
const CHOICES = [["tokenizer.json"], ["vocab.json", "merges.txt"], ["vocab.txt"], ["tokenizer.bin"]] as const;

/**
 * The tokenizer of a model's folder, by the files in it: tokenizer.json; vocab.json with merges.txt (RoBERTa's template,
 * or none for other models); vocab.txt (BERT's WordPiece); tokenizer.bin (llama2.c). tokenizer_config.json says
 * whether texts begin with a space (no, unless it says so; where there is no such file: as the template has it) and
 * whether they become lower case (default: yes).
 */
export function folderTokenizer(folder: string, modelType: string): Tokenizer {
  const found = CHOICES.find((names) => names.every((name) => exists(joinPath(folder, name))));
  if (!found) {
    const wanted = CHOICES.map((names) => names.join(" with ")).join(", or ");
    const half = CHOICES.flat().filter((name) => exists(joinPath(folder, name)));
    const given = half.length > 0 ? `${half.join(", ")} alone is no tokenizer` : "no tokenizer";
    throw new FormatError(`model: ${given} in ${folder} (expected ${wanted})`);
  }
  const text = (name: string): string => readText(joinPath(folder, name));
  try {
    switch (found[0]) {
      case "tokenizer.json":
        return tokenizerFromJson(text("tokenizer.json"));
      case "vocab.json": {
        const template = modelType === "roberta" ? "roberta" : "none";
        const given = settings(folder);
        const said = given ? (given.add_prefix_space ?? false) : null;
        const options = typeof said === "boolean" ? { template, addPrefixSpace: said } : { template };
        return bpeTokenizer(
          text("vocab.json"),
          text("merges.txt"),
          options as Parameters<typeof bpeTokenizer>[2],
        );
      }
      case "vocab.txt":
        return wordPieceTokenizer(text("vocab.txt"), { lowercase: lowercase(settings(folder)) });
      case "tokenizer.bin":
        return scoredTokenizer(readBytes(joinPath(folder, "tokenizer.bin")));
      default:
        return found satisfies never;
    }
  } catch (error) {
    throw new FormatError(`${folder}: ${(error as Error).message}`, { cause: error });
  }
}

type Settings = Readonly<Record<string, unknown>>;

function settings(folder: string): Settings | null {
  const path = joinPath(folder, "tokenizer_config.json");
  return exists(path) ? (JSON.parse(readText(path)) as Settings) : null;
}

/** Whether BERT's text becomes lower case. Settings that would change ids without a word are refused. */
function lowercase(given: Settings | null): boolean {
  const {
    do_lower_case: lower = true,
    strip_accents: accents = null,
    tokenize_chinese_chars: chinese = true,
  } = given ?? {};
  if (typeof lower !== "boolean")
    throw new FormatError(
      `tokenizer_config.json: do_lower_case is ${JSON.stringify(lower)}, expected true or false`,
    );
  if (accents !== null && accents !== lower)
    throw new FormatError(
      `tokenizer_config.json: strip_accents is ${JSON.stringify(accents)}; supported: do_lower_case's`,
    );
  if (chinese !== true)
    throw new FormatError(
      `tokenizer_config.json: tokenize_chinese_chars is ${JSON.stringify(chinese)}; supported: true`,
    );
  return lower;
}
