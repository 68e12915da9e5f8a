const test = require("node:test");
const assert = require("node:assert");
const { answer } = require("../src/answer");

test("durations", () => {
  assert.equal(answer("2h"), "7200000");
});
