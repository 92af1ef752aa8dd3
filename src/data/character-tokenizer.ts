// The characters of the small "gpt2-like" checkpoints, whose folders hold no vocabulary.
import { plainTemplate } from "./template.ts";
import { createTokenizer, type Tokenizer } from "./tokenizer.ts";

/** What a character without an id is read as. */
const SPACE = 2;
/** Ids of the largest such checkpoint; which characters the others stand for is not known. */
const IDS = 169;

/**
 * One token a character, by the codes that "gpt2-like" checkpoints were trained with: tab 0, newline 1, characters 32 to
 * 90 their code less 30, a to z their code less 31. Others are read as spaces, and ids without a character are written
 * as U+FFFD. No special tokens; `padId` is the tab.
 *
 *     characterTokenizer().encode("One")  // Int32Array [49, 79, 70]
 */
export function characterTokenizer(): Tokenizer {
  const vocab = new Map<string, number>([
    ["\t", 0],
    ["\n", 1],
  ]);
  for (let code = 32; code <= 90; code++) vocab.set(String.fromCharCode(code), code - 30);
  for (let code = 97; code <= 122; code++) vocab.set(String.fromCharCode(code), code - 31);
  const known = new Set(vocab.values());
  for (let id = 0; id < IDS; id++) if (!known.has(id)) vocab.set(`<${id}>`, id);
  const characters = new Map(Array.from(vocab, ([character, id]) => [id, character]));
  const encodeText = (text: string): number[] =>
    Array.from(text, (character) => vocab.get(character) ?? SPACE);
  return createTokenizer({
    library: {
      encode: (text) => ({ ids: encodeText(text) }),
      decode: (ids) => ids.map((id) => (known.has(id) ? characters.get(id) : "\uFFFD")).join(""),
    },
    vocab,
    special: { padId: 0, bosId: null, eosId: null, unkId: null, maskId: null },
    added: [],
    template: plainTemplate,
    encodeText,
    addPrefixSpace: false,
  });
}
