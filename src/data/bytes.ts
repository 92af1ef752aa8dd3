/**
 * The alphabet and the words of byte-level BPE, as GPT-2 and RoBERTa define them: every byte has a printable
 * character, so that any text is a string of known symbols, and a word keeps the space in front of it.
 */

/** Bytes that stand for themselves: the printable ones of Latin-1, without the soft hyphen. */
const isPrintable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

/** The character of each byte: itself, or the next one from U+0100 on. A space becomes "Ġ". */
export const BYTE_CHARACTERS: readonly string[] = byteCharacters();

function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}

/**
 * English contractions, letters, digits, other signs, each with at most one space in front; white space that
 * ends the text or leaves one space to the next word; other white space.
 */
const WORD = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Splits a text into words, without loss: the words joined are the text. */
export function splitWords(text: string): string[] {
  return text.match(WORD) ?? [];
}

/** Puts a space in front of a text that has none, so that its first word looks like any other. */
export const prefixSpace = (text: string): string => (text.startsWith(" ") ? text : ` ${text}`);
