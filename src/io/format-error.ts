/** A file whose contents break the rules of its format. The message says which rule, with the values. */
export class FormatError extends Error {
  override readonly name = "FormatError";
}
