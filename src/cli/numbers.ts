import { InvalidArgumentError } from "commander";

/** A whole number of 1 or more. */
export function count(text: string): number {
  if (!/^0*[1-9]\d*$/.test(text)) throw new InvalidArgumentError("Expected a whole number of 1 or more.");
  return Number(text);
}

/** A whole number of 1 or more, or "all". */
export function countOrAll(text: string): number | "all" {
  return text === "all" ? text : count(text);
}

/** A whole number of 0 or more. */
export function countOrNone(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Expected a whole number.");
  return Number(text);
}

export function anyNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("Expected a number.");
  return value;
}
