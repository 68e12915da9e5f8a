const http = require("node:http");
const { answer } = require("./answer");

const arg = process.argv[2];
if (arg === "--health") {
  http.get("http://127.0.0.1:3000/1s", (res) => process.exit(res.statusCode === 200 ? 0 : 1));
} else if (arg) {
  console.log(answer(arg));
} else {
  http.createServer((req, res) => res.end(answer(req.url.slice(1)) + "\n")).listen(3000);
}
