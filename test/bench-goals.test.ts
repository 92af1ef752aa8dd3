// The table of goals in bench/README.md is what the committed results say.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { goalsTable, writtenTable } from "../bench/goals.ts";

const test = suite("bench: goals");

test("bench/README.md has the table of the results (npm run bench:goals)", () => {
  assert.is(writtenTable(), goalsTable());
});

test.run();
