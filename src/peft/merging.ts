import type { Parameter } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { Module } from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import type { Side } from "./router.ts";

/** A bank of a module, with its dotted name inside and the side of the experts that it is. */
export interface NamedBank {
  readonly name: string;
  readonly side: Side;
  readonly bank: LinearBank;
}

/** The banks inside a module, in order of declaration. */
export function* banksIn(module: Module, prefix = ""): IterableIterator<NamedBank> {
  for (const [key, value] of Object.entries(module)) {
    const name = `${prefix}${key}`;
    if (value instanceof LinearBank) yield { name, side: sideOf(key), bank: value };
    else if (value instanceof Module) yield* banksIn(value, `${name}.`);
  }
}

/** By its name: an up-projection is `up…` or `…_B`. */
function sideOf(name: string): Side {
  return /^up|_B$/.test(name) ? "up" : "down";
}

/**
 * Overwrites a module of one expert on each side with the mean of another's experts, or with Σ weights · expert.
 * What both have beside their banks is copied.
 */
export function mergeInto(
  to: Module,
  from: Module,
  what: string,
  weightsOf: ((side: Side, experts: number) => readonly number[]) | null,
): void {
  const sources = new Map([...banksIn(from)].map((entry) => [entry.name, entry]));
  const done = new Set<Parameter>();
  for (const { name, bank } of banksIn(to)) {
    const source = sources.get(name);
    if (!source) throw new ShapeError(`merge: ${what} has no ${name} to merge; it is another method's`);
    const { experts } = source.bank;
    bank.setToMeanOf(source.bank, weightsOf && experts > 1 ? weightsOf(source.side, experts) : null);
    for (const parameter of bank.parameters()) done.add(parameter);
  }
  const rest = from.stateDict();
  for (const [name, parameter] of to.namedParameters()) {
    if (done.has(parameter)) continue;
    const other = rest.get(name);
    if (!other?.array.hasShape(parameter.shape))
      throw new ShapeError(
        `merge: ${what}: ${name} is in no bank of experts, and differs from the mixture's`,
      );
    parameter.setTo(other);
  }
}
