// Reads Python pickles as data. Nothing is imported, constructed or called: a global is a name that the caller knows
// or the file is refused, and REDUCE runs the caller's function of that name, which only puts data together.
import { FormatError } from "./format-error.ts";

export type PickleValue =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | readonly PickleValue[]
  | Map<PickleValue, PickleValue>
  | PickleGlobal
  | PickleObject;

/** A name that the pickle refers to: "collections.OrderedDict". */
export interface PickleGlobal {
  readonly global: string;
}

/** What a caller's function made. */
export interface PickleObject {
  readonly made: unknown;
}

export interface PickleReader {
  /** Functions by the names they may be asked for under; a name mapped to null may be mentioned, not called. */
  readonly globals: Readonly<Record<string, ((args: readonly PickleValue[]) => PickleValue) | null>>;
  /** Gives the object that a persistent id stands for. */
  readonly persistent: (id: PickleValue) => PickleValue;
}

const MARK = Symbol("mark");
type Slot = PickleValue | typeof MARK;

/** The value that a pickle of protocol 2 to 4 holds. */
export function readPickle(bytes: Uint8Array, reader: PickleReader): PickleValue {
  return new Machine(bytes, reader).run();
}

class Machine {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #reader: PickleReader;
  readonly #stack: Slot[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #at = 0;

  constructor(bytes: Uint8Array, reader: PickleReader) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#reader = reader;
  }

  run(): PickleValue {
    for (;;) {
      const code = this.#number(1);
      if (code === 0x2e) return this.#pop(); // STOP
      this.#step(code);
    }
  }

  #step(code: number): void {
    const char = String.fromCharCode(code);
    switch (char) {
      case "\x80": // PROTO
        this.#protocol(this.#number(1));
        return;
      case "\x95": // FRAME
        this.#take(8);
        return;
      case "(":
        this.#stack.push(MARK);
        return;
      case "0": // POP
        this.#stack.pop();
        return;
      case "}":
        this.#stack.push(new Map());
        return;
      case "]":
      case ")":
        this.#stack.push([]);
        return;
      case "t":
      case "l":
        this.#stack.push(this.#popToMark());
        return;
      case "\x85":
      case "\x86":
      case "\x87":
        this.#tuple(code - 0x84);
        return;
      case "s":
        this.#setItems([this.#pop(), this.#pop()].reverse());
        return;
      case "u":
        this.#setItems(this.#popToMark());
        return;
      case "a":
        this.#append([this.#pop()]);
        return;
      case "e":
        this.#append(this.#popToMark());
        return;
      case "b": // BUILD: attributes of an object; those of a dictionary say nothing of its items
        this.#pop();
        return;
      case "c":
        this.#global(`${this.#line()}.${this.#line()}`);
        return;
      case "\x93": // STACK_GLOBAL
        this.#stackGlobal();
        return;
      case "R":
      case "\x81": // NEWOBJ
        this.#reduce();
        return;
      case "Q":
        this.#stack.push(this.#reader.persistent(this.#pop()));
        return;
      default:
        if (!this.#constant(char) && !this.#remember(char)) {
          const hex = code.toString(16).padStart(2, "0");
          throw new FormatError(`pickle: opcode 0x${hex} at byte ${this.#at - 1} is none that weights need`);
        }
    }
  }

  #constant(char: string): boolean {
    const value = this.#constantValue(char);
    if (value === undefined) return false;
    this.#stack.push(value);
    return true;
  }

  #constantValue(char: string): PickleValue | undefined {
    switch (char) {
      case "N":
        return null;
      case "\x88":
        return true;
      case "\x89":
        return false;
      case "K":
        return this.#number(1);
      case "M":
        return this.#number(2);
      case "J":
        return this.#number(4) | 0;
      case "\x8a": // LONG1
        return this.#long(this.#number(1));
      case "G":
        return this.#float();
      case "X":
        return this.#text(this.#number(4));
      case "\x8c":
        return this.#text(this.#number(1));
      case "C":
        return this.#take(this.#number(1));
      case "B":
        return this.#take(this.#number(4));
      default:
        return undefined;
    }
  }

  #remember(char: string): boolean {
    switch (char) {
      case "q":
        this.#memo.set(this.#number(1), this.#top());
        return true;
      case "r":
        this.#memo.set(this.#number(4), this.#top());
        return true;
      case "\x94": // MEMOIZE
        this.#memo.set(this.#memo.size, this.#top());
        return true;
      case "h":
        this.#stack.push(this.#recall(this.#number(1)));
        return true;
      case "j":
        this.#stack.push(this.#recall(this.#number(4)));
        return true;
      default:
        return false;
    }
  }

  #protocol(protocol: number): void {
    if (protocol < 2 || protocol > 4) throw new FormatError(`pickle: protocol ${protocol}, expected 2 to 4`);
  }

  #global(name: string): void {
    if (!Object.hasOwn(this.#reader.globals, name))
      throw new FormatError(
        `pickle: it wants ${name}, which weights do not need; the file is refused (take a safetensors file)`,
      );
    this.#stack.push({ global: name });
  }

  #stackGlobal(): void {
    const [name, module] = [this.#pop(), this.#pop()];
    this.#global(`${String(module)}.${String(name)}`);
  }

  #reduce(): void {
    const args = this.#pop();
    const callee = this.#pop();
    const name = isGlobal(callee) ? callee.global : null;
    const call = name === null ? null : this.#reader.globals[name];
    if (!call || !Array.isArray(args))
      throw new FormatError(`pickle: it calls ${name ?? "what is no name"}; the file is refused`);
    this.#stack.push(call(args));
  }

  #tuple(n: number): void {
    const items = Array.from({ length: n }, () => this.#pop()).reverse();
    this.#stack.push(items);
  }

  #setItems(items: readonly PickleValue[]): void {
    const target = this.#top();
    if (!(target instanceof Map) || items.length % 2 !== 0)
      throw new FormatError("pickle: items of no dictionary");
    for (let i = 0; i < items.length; i += 2)
      target.set(items[i] as PickleValue, items[i + 1] as PickleValue);
  }

  #append(items: readonly PickleValue[]): void {
    const target = this.#top();
    if (!Array.isArray(target)) throw new FormatError("pickle: items of no list");
    target.push(...items);
  }

  #pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw new FormatError("pickle: a value is missing");
    return value;
  }

  #top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw new FormatError("pickle: a value is missing");
    return value;
  }

  #popToMark(): PickleValue[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at === -1) throw new FormatError("pickle: a mark is missing");
    const items = this.#stack.splice(at).slice(1);
    return items as PickleValue[]; // behind the last mark there is none
  }

  #recall(key: number): PickleValue {
    const value = this.#memo.get(key);
    if (value === undefined) throw new FormatError(`pickle: nothing was remembered under ${key}`);
    return value;
  }

  #take(length: number): Uint8Array {
    if (this.#at + length > this.#bytes.length)
      throw new FormatError(
        `pickle: truncated at byte ${this.#bytes.length}, wanted ${length} from ${this.#at} on`,
      );
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** An unsigned number of 1, 2 or 4 bytes. */
  #number(bytes: 1 | 2 | 4): number {
    const at = this.#at;
    this.#take(bytes);
    if (bytes === 1) return this.#view.getUint8(at);
    return bytes === 2 ? this.#view.getUint16(at, true) : this.#view.getUint32(at, true);
  }

  #float(): number {
    this.#take(8);
    return this.#view.getFloat64(this.#at - 8); // big-endian
  }

  #long(length: number): number {
    const bytes = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0);
    const signed = length > 0 ? BigInt.asIntN(8 * length, value) : 0n;
    const number = Number(signed);
    if (!Number.isSafeInteger(number)) throw new FormatError(`pickle: ${signed} is beyond 2^53`);
    return number;
  }

  #text(length: number): string {
    const bytes = this.#take(length);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch (cause) {
      throw new FormatError(`pickle: the text before byte ${this.#at} is not UTF-8`, { cause });
    }
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end === -1) throw new FormatError("pickle: truncated in the middle of a name");
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }
}

export function isGlobal(value: PickleValue): value is PickleGlobal {
  return typeof value === "object" && value !== null && "global" in value;
}
