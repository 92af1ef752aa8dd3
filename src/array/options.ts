import { ShapeError } from "../gpu/index.ts";
import { nearest } from "./nearest.ts";

/** All names of an options object; the compiler keeps the list and the type alike. */
export type OptionNames<Options> = { readonly [Name in keyof Options]-?: true };

/**
 * The options as they are given, after a look at their names: one that is not known would be ignored. Types see most of
 * them, but not those of plain JavaScript, nor of objects that are spread.
 */
export function knownOptions<Options extends object>(
  op: string,
  options: Options,
  names: OptionNames<NoInfer<Options>>,
): Options {
  const given: unknown = options; // what no type has checked
  if (typeof given !== "object" || given === null)
    throw new ShapeError(`${op}: options are ${String(given)}, expected an object with ${listOf(names)}`);
  for (const name in options) if (!Object.hasOwn(names, name)) throw unknownOption(op, name, names);
  return options;
}

function unknownOption(op: string, name: string, names: object): ShapeError {
  const near = nearest(name, Object.keys(names));
  const hint = near.length > 0 ? `near: ${near.join(", ")}` : `there are ${listOf(names)}`;
  return new ShapeError(`${op}: unknown option "${name}"; ${hint}`);
}

function listOf(names: object): string {
  return Object.keys(names).join(", ");
}
