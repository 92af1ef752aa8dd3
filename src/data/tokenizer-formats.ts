/** Tokenizers from other files: BERT's `vocab.txt`, and Hugging Face's `tokenizer.json`. */

import { Tokenizer as Library } from "@huggingface/tokenizers";
import {
  bertTemplate,
  plainTemplate,
  robertaTemplate,
  type Template,
  type TemplatePiece,
} from "./template.ts";
import {
  checkBytes,
  createTokenizer,
  libraryEncoder,
  required,
  type SpecialIds,
  type SpecialNames,
  specialIds,
  type Tokenizer,
} from "./tokenizer.ts";
import { checkMerges, checkVocab, parseJson, type Vocab } from "./tokenizer-files.ts";
import { type AddedToken, byteLevelEncoder } from "./word-cache.ts";

const BERT_NAMES = { bos: "[CLS]", eos: "[SEP]", pad: "[PAD]", unk: "[UNK]", mask: "[MASK]" } as const;

/** A WordPiece tokenizer from the text of BERT's `vocab.txt`: one token a line, its id the line's index. */
export function wordPieceTokenizer(
  vocabText: string,
  { lowercase = true }: { readonly lowercase?: boolean } = {},
): Tokenizer {
  if (vocabText.trim() === "") throw new Error("tokenizer: vocab.txt is empty");
  const lines = vocabText.replace(/\r?\n$/, "").split(/\r?\n/);
  const vocab = new Map<string, number>();
  for (const [id, token] of lines.entries()) {
    const other = vocab.get(token);
    if (other !== undefined) {
      throw new Error(`tokenizer: vocab.txt: lines ${other + 1} and ${id + 1} are both "${token}"`);
    }
    vocab.set(token, id);
  }
  const special = specialIds(vocab, BERT_NAMES, "vocab.txt");
  required(special.unkId, "unk");
  const added = Object.values(BERT_NAMES).flatMap((content): AddedToken[] => {
    const id = vocab.get(content);
    return id === undefined ? [] : [{ content, id }];
  });
  const library = new Library(
    {
      added_tokens: added.map((token) => ({ ...token, special: true })),
      normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, lowercase },
      pre_tokenizer: { type: "BertPreTokenizer" },
      post_processor: null,
      decoder: { type: "WordPiece", prefix: "##", cleanup: true },
      model: {
        type: "WordPiece",
        vocab: Object.fromEntries(vocab),
        unk_token: BERT_NAMES.unk,
        continuing_subword_prefix: "##",
      },
    },
    {},
  );
  const template = bertTemplate(required(special.bosId, "bos"), required(special.eosId, "eos"));
  const encodeText = libraryEncoder(library);
  return createTokenizer({ library, vocab, special, added, template, encodeText, addPrefixSpace: false });
}

/** The parts of a `tokenizer.json` that are read here; the library reads the rest. */
interface TokenizerJson {
  readonly added_tokens?: readonly (AddedToken & { readonly special?: boolean })[];
  readonly normalizer?: object | null;
  readonly pre_tokenizer?: {
    readonly type: string;
    readonly add_prefix_space?: boolean;
    readonly use_regex?: boolean;
  } | null;
  readonly post_processor?: PostProcessor | null;
  readonly decoder?: object | null;
  readonly model?: {
    readonly type?: string;
    readonly vocab?: unknown;
    readonly merges?: unknown;
    readonly unk_token?: string | null;
  };
}

type TemplateItem =
  | { readonly SpecialToken: { readonly id: string; readonly type_id: number } }
  | { readonly Sequence: { readonly id: "A" | "B"; readonly type_id: number } };

interface PostProcessor {
  readonly type: string;
  readonly cls?: readonly [string, number];
  readonly sep?: readonly [string, number];
  readonly single?: readonly TemplateItem[];
  readonly pair?: readonly TemplateItem[];
  readonly processors?: readonly PostProcessor[];
}

/**
 * A tokenizer from the text of a `tokenizer.json` whose model is BPE or WordPiece.
 * Special tokens are found by their usual names; `specials` names others.
 */
export function tokenizerFromJson(
  text: string,
  { specials = {} }: { readonly specials?: SpecialNames } = {},
): Tokenizer {
  const file = "tokenizer.json";
  const json = parseJson(text, file) as TokenizerJson; // Its parts are checked as they are used.
  const { model, normalizer = null, pre_tokenizer = null, added_tokens: added = [] } = json;
  if (model?.vocab === undefined) throw new Error(`tokenizer: ${file} has no model with a vocabulary`);
  const type = model.type ?? (model.merges === undefined ? "unknown" : "BPE");
  if (type !== "BPE" && type !== "WordPiece") {
    throw new Error(`tokenizer: ${file} has a model of type ${type}; BPE and WordPiece are read`);
  }
  const words = checkVocab(model.vocab, file);
  if (type === "BPE") checkMerges(model.merges, words, file);
  const vocab: Vocab = new Map([...words, ...added.map(({ content, id }) => [content, id] as const)]);

  const isByteLevel = type === "BPE" && normalizer === null && pre_tokenizer?.type === "ByteLevel";
  const addPrefixSpace = isByteLevel && pre_tokenizer?.add_prefix_space === true;
  const cached = isByteLevel && pre_tokenizer?.use_regex !== false;
  if (isByteLevel) checkBytes(vocab, typeof model.unk_token === "string", file);
  // The cache puts the leading space itself: the library must not add a second one to each word.
  const plain = cached ? { ...json, pre_tokenizer: { ...pre_tokenizer, add_prefix_space: false } } : json;
  const library = new Library(
    {
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      added_tokens: [],
      ...plain,
    },
    {},
  );
  const encodeWord = libraryEncoder(library);
  return createTokenizer({
    library,
    vocab,
    special: findSpecials(vocab, model.unk_token ?? null, specials, file),
    added: added.filter(({ special }) => special === true),
    template: templateOf(json.post_processor ?? null, vocab, file),
    encodeText: cached ? byteLevelEncoder({ added, addPrefixSpace, encodeWord }) : encodeWord,
    addPrefixSpace,
  });
}

/** RoBERTa's, BERT's or GPT-2's names, whichever the vocabulary has; a missing pad is the end of text. */
function findSpecials(vocab: Vocab, unk: string | null, names: SpecialNames, file: string): SpecialIds {
  const first = (given: string | undefined, ...usual: (string | null)[]): SpecialNames[keyof SpecialNames] =>
    given ?? usual.find((name) => name !== null && vocab.has(name)) ?? undefined;
  const found = {
    bos: first(names.bos, "<s>", "[CLS]", "<|endoftext|>"),
    eos: first(names.eos, "</s>", "[SEP]", "<|endoftext|>"),
    pad: first(names.pad, "<pad>", "[PAD]", "<|endoftext|>"),
    unk: first(names.unk, unk, "<unk>", "[UNK]"),
    mask: first(names.mask, "<mask>", "[MASK]"),
  };
  const given = Object.entries(found).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return specialIds(vocab, Object.fromEntries(given), file);
}

function templateOf(processor: PostProcessor | null, vocab: Vocab, file: string): Template {
  if (processor === null) return plainTemplate;
  const { type, cls, sep, single, pair, processors = [] } = processor;
  switch (type) {
    case "ByteLevel": // Only trims offsets, which nobody asks for here.
      return plainTemplate;
    case "RobertaProcessing":
    case "BertProcessing": {
      if (cls === undefined || sep === undefined) break;
      return type === "BertProcessing" ? bertTemplate(cls[1], sep[1]) : robertaTemplate(cls[1], sep[1]);
    }
    case "TemplateProcessing": {
      const pieces = (items: readonly TemplateItem[] = []) => items.map((item) => pieceOf(item, vocab, file));
      return { single: pieces(single), pair: pieces(pair) };
    }
    case "Sequence": {
      const templates = processors.map((inner) => templateOf(inner, vocab, file));
      return templates.find((template) => template !== plainTemplate) ?? plainTemplate;
    }
  }
  throw new Error(`tokenizer: ${file} has a post-processor ${type} that is not read`);
}

function pieceOf(item: TemplateItem, vocab: Vocab, file: string): TemplatePiece {
  if ("Sequence" in item) return { piece: item.Sequence.id, type: item.Sequence.type_id === 1 ? 1 : 0 };
  const { id: name, type_id } = item.SpecialToken;
  const id = vocab.get(name);
  if (id === undefined)
    throw new Error(`tokenizer: ${file}: the template's token "${name}" is not in the vocabulary`);
  return { piece: id, type: type_id === 1 ? 1 : 0 };
}
