/**
 * Text to token ids and back: byte-level BPE (RoBERTa, GPT-2), WordPiece (BERT), or a `tokenizer.json`.
 *
 * The vocabulary comes as text: reading files is the caller's work. Merging and decoding are done by
 * `@huggingface/tokenizers`; special tokens, truncation and the cache of words are done here.
 */

import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { BYTE_CHARACTERS } from "./bytes.ts";
import { type Assembled, assemble, plainTemplate, robertaTemplate, type Template } from "./template.ts";
import { parseMerges, parseVocab, type Vocab } from "./tokenizer-files.ts";
import { type AddedToken, byteLevelEncoder, type EncodeText } from "./word-cache.ts";

export interface EncodeOptions {
  /** The longest result, special tokens included; longer texts lose their end, the longer of two first. */
  readonly maxLength?: number;
  /** Whether special tokens go around the texts; true by default. */
  readonly specials?: boolean;
}

export interface Tokenizer extends SpecialIds {
  /** The largest id plus one: the rows that an embedding table needs. */
  readonly vocabSize: number;
  /** Every id that stands for no text, in ascending order. */
  readonly specialIds: readonly number[];
  /** Token ids of a text or a pair. Special tokens spelt out in the text become their ids. */
  encode(text: string, pair?: string | null, options?: EncodeOptions): Int32Array;
  /** The same with token types, for models that have them (BERT's segments). */
  encodeTyped(text: string, pair?: string | null, options?: EncodeOptions): Assembled;
  /** The text of ids; special tokens are left out unless `specials` is true. */
  decode(ids: Iterable<number>, options?: { readonly specials?: boolean }): string;
  idOf(token: string): number | undefined;
  tokenOf(id: number): string | undefined;
}

/** Ids of the special tokens by their use; null where the vocabulary has none. */
export interface SpecialIds {
  readonly padId: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly unkId: number | null;
  readonly maskId: number | null;
}

/** The names of the special tokens in a vocabulary. */
export interface SpecialNames {
  readonly bos?: string;
  readonly eos?: string;
  readonly pad?: string;
  readonly unk?: string;
  readonly mask?: string;
}

export interface BpeTokenizerOptions {
  /** `roberta`: `<s> A </s>` and `<s> A </s></s> B </s>`. `none`: the text alone (GPT-2). */
  readonly template?: "roberta" | "none";
  /** Whether a text begins like a word within a text; by default true with `roberta`, false with `none`. */
  readonly addPrefixSpace?: boolean;
  /** Replaces single names; RoBERTa's, or `<|endoftext|>` for all with the template `none`. */
  readonly specials?: SpecialNames;
}

/** What is used of the library. Named here: the declarations of the package do not resolve under `nodenext`. */
export interface Library {
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: number[] };
  decode(
    ids: number[],
    options: { readonly skip_special_tokens: boolean; readonly clean_up_tokenization_spaces: boolean },
  ): string;
}

/** A tokenizer's parts, once its files are read and checked. */
export interface TokenizerParts {
  readonly library: Library;
  readonly vocab: Vocab;
  readonly special: SpecialIds;
  readonly added: readonly AddedToken[];
  readonly template: Template;
  readonly encodeText: EncodeText;
  /** Whether the first text was given a space that decoding takes back. */
  readonly addPrefixSpace: boolean;
}

const ROBERTA_NAMES = { bos: "<s>", eos: "</s>", pad: "<pad>", unk: "<unk>", mask: "<mask>" } as const;
const GPT2_NAMES = { bos: "<|endoftext|>", eos: "<|endoftext|>", pad: "<|endoftext|>" } as const;

/**
 * A byte-level BPE tokenizer from the texts of `vocab.json` and `merges.txt`.
 *
 *     const tokenizer = bpeTokenizer(vocabText, mergesText);
 *     tokenizer.encode("we felt <mask> .")  // Int32Array [0, 305, 300, 4, 263, 2] with the demonstration vocabulary
 */
export function bpeTokenizer(
  vocabText: string,
  mergesText: string,
  options: BpeTokenizerOptions = {},
): Tokenizer {
  const { template = "roberta", addPrefixSpace = template === "roberta" } = options;
  const vocab = parseVocab(vocabText);
  const merges = parseMerges(mergesText, vocab);
  const names: SpecialNames = {
    ...(template === "roberta" ? ROBERTA_NAMES : GPT2_NAMES),
    ...options.specials,
  };
  const special = specialIds(vocab, names, "vocab.json");
  checkBytes(vocab, special.unkId !== null, "vocab.json");
  const added = addedTokens(vocab, names);
  const library = new HuggingFaceTokenizer(
    {
      added_tokens: added.map((token) => ({ ...token, special: true })),
      normalizer: null,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false },
      post_processor: null,
      decoder: { type: "ByteLevel" },
      model: {
        type: "BPE",
        vocab: Object.fromEntries(vocab),
        merges,
        unk_token: special.unkId === null ? null : names.unk,
      },
    },
    {},
  );
  return createTokenizer({
    library,
    vocab,
    special,
    added,
    template:
      template === "roberta"
        ? robertaTemplate(required(special.bosId, "bos"), required(special.eosId, "eos"))
        : plainTemplate,
    encodeText: byteLevelEncoder({ added, addPrefixSpace, encodeWord: libraryEncoder(library) }),
    addPrefixSpace,
  });
}

/** Joins the parts into a tokenizer. */
export function createTokenizer(parts: TokenizerParts): Tokenizer {
  const { library, vocab, special, added, template, encodeText, addPrefixSpace } = parts;
  const tokens = new Map(Array.from(vocab, ([token, id]) => [id, token]));
  let vocabSize = 0;
  for (const id of vocab.values()) vocabSize = Math.max(vocabSize, id + 1);

  function encodeTyped(text: string, pair: string | null = null, options: EncodeOptions = {}): Assembled {
    const { maxLength = Number.POSITIVE_INFINITY, specials = true } = options;
    const b = pair === null ? null : encodeText(pair);
    return assemble(specials ? template : plainTemplate, encodeText(text), b, maxLength);
  }

  return {
    ...special,
    vocabSize,
    specialIds: [...new Set(added.map(({ id }) => id))].sort((a, b) => a - b),
    encode: (text, pair, options) => encodeTyped(text, pair, options).ids,
    encodeTyped,
    decode(ids, { specials = false } = {}) {
      const list = Array.from(ids);
      const stray = list.findIndex((id) => !tokens.has(id));
      if (stray >= 0) {
        throw new RangeError(
          `tokenizer: id ${list[stray]} at place ${stray} is no token; ids are 0 .. ${vocabSize - 1}`,
        );
      }
      if (list.length === 0) return ""; // The library refuses an empty list.
      const text = library.decode(list, {
        skip_special_tokens: !specials,
        clean_up_tokenization_spaces: false,
      });
      return addPrefixSpace && text.startsWith(" ") ? text.slice(1) : text;
    },
    idOf: (token) => vocab.get(token),
    tokenOf: (id) => tokens.get(id),
  };
}

/** The library's ids of a text, without special tokens around it. */
export function libraryEncoder(library: Library): EncodeText {
  return (text) => library.encode(text, { add_special_tokens: false }).ids;
}

/** Looks up the special tokens by name. A missing pad, bos or eos is an error; unk and mask may be absent. */
export function specialIds(vocab: Vocab, names: SpecialNames, file: string): SpecialIds {
  const wanted = new Set([names.bos, names.eos, names.pad]);
  const missing = [...wanted].filter((name) => name !== undefined && !vocab.has(name));
  if (missing.length > 0) {
    const plural = missing.length > 1 ? "s" : "";
    throw new Error(`tokenizer: ${file} lacks the special token${plural} ${missing.join(" ")}`);
  }
  const find = (name: string | undefined): number | null =>
    name === undefined ? null : (vocab.get(name) ?? null);
  return {
    padId: required(find(names.pad), "pad"),
    bosId: find(names.bos),
    eosId: find(names.eos),
    unkId: find(names.unk),
    maskId: find(names.mask),
  };
}

/** The special tokens that the vocabulary has. The space before a mask belongs to the mask, as in RoBERTa. */
function addedTokens(vocab: Vocab, names: SpecialNames): AddedToken[] {
  const distinct = new Set(Object.values<string | undefined>({ ...names }));
  return [...distinct].flatMap((content) => {
    const id = content === undefined ? undefined : vocab.get(content);
    return content === undefined || id === undefined ? [] : [{ content, id, lstrip: content === names.mask }];
  });
}

/** Without an unknown token, every byte must have one of its own: else some text would vanish. */
export function checkBytes(vocab: Vocab, hasUnknown: boolean, file: string): void {
  if (hasUnknown) return;
  const byte = BYTE_CHARACTERS.findIndex((character) => !vocab.has(character));
  if (byte >= 0) {
    throw new Error(
      `tokenizer: ${file} lacks the byte ${byte} ("${BYTE_CHARACTERS[byte]}") and has no unknown token`,
    );
  }
}

export function required(id: number | null, use: keyof SpecialNames): number {
  if (id === null) throw new Error(`tokenizer: the vocabulary has no ${use} token; name it in \`specials\``);
  return id;
}
