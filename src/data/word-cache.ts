/** Byte-level encoding with a cache of words: a text in a language repeats few words many times. */

import { prefixSpace, splitWords } from "./bytes.ts";

/** A token that is found in a text as it is spelt, before words are split. */
export interface AddedToken {
  readonly content: string;
  readonly id: number;
  /** Whether white space before (`lstrip`) or after (`rstrip`) it belongs to it. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

/** Ids of a text without any template. */
export type EncodeText = (text: string) => number[];

export interface ByteLevelOptions {
  readonly added: readonly AddedToken[];
  readonly addPrefixSpace: boolean;
  /** Merges one word, as `splitWords` gives it. */
  readonly encodeWord: (word: string) => readonly number[];
}

/** Words kept at most; then the cache starts afresh. Far above the distinct words of a data set. */
const CACHED_WORDS = 1 << 17;

/**
 * An encoder that splits at added tokens, then into words, and asks `encodeWord` for each word once.
 * Every stretch between added tokens gets its own leading space, as in Hugging Face's tokenizers.
 */
export function byteLevelEncoder({ added, addPrefixSpace, encodeWord }: ByteLevelOptions): EncodeText {
  const splitAdded = addedTokenSplitter(added);
  const cache = new Map<string, readonly number[]>();

  return (text) => {
    const ids: number[] = [];
    for (const section of splitAdded(text)) {
      if (typeof section === "number") {
        ids.push(section);
        continue;
      }
      for (const word of splitWords(addPrefixSpace ? prefixSpace(section) : section)) {
        let known = cache.get(word);
        if (known === undefined) {
          known = encodeWord(word);
          if (cache.size >= CACHED_WORDS) cache.clear();
          cache.set(word, known);
        }
        for (const id of known) ids.push(id);
      }
    }
    return ids;
  };
}

/** Cuts a text into ids of added tokens and the texts between them, none of them empty. */
function addedTokenSplitter(added: readonly AddedToken[]): (text: string) => (string | number)[] {
  const byContent = new Map(added.map((token) => [token.content, token]));
  const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
  if (longestFirst.length === 0) return (text) => (text === "" ? [] : [text]);
  const pattern = new RegExp(`(${longestFirst.map(escapeRegExp).join("|")})`, "u");

  return (text) => {
    const parts = text.split(pattern); // Texts at even places, added tokens at odd ones.
    const sections: (string | number)[] = [];
    parts.forEach((part, i) => {
      const token = i % 2 === 1 ? byContent.get(part) : undefined;
      if (token !== undefined) {
        sections.push(token.id);
        return;
      }
      let section = part;
      if (byContent.get(parts[i - 1] ?? "")?.rstrip) section = section.trimStart();
      if (byContent.get(parts[i + 1] ?? "")?.lstrip) section = section.trimEnd();
      if (section !== "") sections.push(section);
    });
    return sections;
  };
}

const escapeRegExp = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
