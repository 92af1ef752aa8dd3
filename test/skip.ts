interface Skippable {
  skip(name?: string, handler?: () => void): void;
}

/** Registers a test that is not run here, and says in one line why. */
export function skipped(suite: Skippable, name: string, reason: string): void {
  suite.skip(name, () => {});
  console.log(`skipped: ${name} (${reason})`);
}
