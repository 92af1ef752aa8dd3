import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** A peer could not answer, for a reason that a reader of the table understands. */
export class PeerError extends Error {}

type Answer = Readonly<Record<string, unknown>>;

/** A process that is asked in JSON lines and answers each question with one. */
export class PeerProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  /** Answers that nobody has waited for, and waits that have no answer. */
  readonly #answers: Answer[] = [];
  #waiting: { resolve(answer: Answer): void; reject(error: Error): void } | null = null;
  #lastWords = "";
  #end: string | null = null;

  constructor([program, ...args]: readonly [string, ...string[]], cwd: string, env = {}) {
    this.#child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: "pipe" });
    this.#child.on("error", (error) => this.#ended(error.message));
    this.#child.on("exit", (code, signal) => this.#ended(`ended by ${signal ?? `exit code ${code}`}`));
    this.#child.stdin.on("error", () => {}); // its end is told by "exit"
    this.#child.stderr.on("data", (text: Buffer) => {
      this.#lastWords = (this.#lastWords + text).slice(-4000);
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#hear(line));
  }

  /** The next answer, after `question` where there is one. Rejects with a PeerError: {cannot}, its end, or no answer in time. */
  async ask(question: object | null, limitSeconds: number): Promise<Answer> {
    if (question) this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    const answer = this.#answers.shift() ?? (await this.#next(limitSeconds));
    if (typeof answer.cannot === "string") throw new PeerError(answer.cannot.split("\n")[0]);
    return answer;
  }

  /** Ends the process. */
  stop(): void {
    this.#child.kill("SIGKILL");
  }

  #next(limitSeconds: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const clock = setTimeout(
        () => this.#settle(reject, new PeerError(`no answer within ${limitSeconds} s`)),
        1000 * limitSeconds,
      );
      const done = (): void => clearTimeout(clock);
      this.#waiting = {
        resolve: (answer) => {
          done();
          resolve(answer);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      if (this.#end !== null) this.#settle(this.#waiting.reject, this.#endError());
    });
  }

  #hear(line: string): void {
    if (!line.startsWith("{")) return; // an engine's own words
    let answer: Answer;
    try {
      answer = JSON.parse(line);
    } catch {
      answer = { cannot: `not JSON: ${line.slice(0, 80)}` };
    }
    if (this.#waiting) this.#settle(this.#waiting.resolve, answer);
    else this.#answers.push(answer);
  }

  #settle<T>(how: (value: T) => void, value: T): void {
    this.#waiting = null;
    how(value);
  }

  #ended(how: string): void {
    this.#end ??= how;
    // The last line of stdout may arrive after the news of the end.
    setImmediate(() => {
      if (this.#waiting) this.#settle(this.#waiting.reject, this.#endError());
    });
  }

  #endError(): PeerError {
    const error = /^\w*Error:? .*$/m.exec(this.#lastWords)?.[0];
    return new PeerError(`${this.#end}${error ? `: ${error}` : ""}`);
  }
}
