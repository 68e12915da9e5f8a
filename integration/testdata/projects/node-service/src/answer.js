const ms = require("ms");

exports.answer = (text) => String(ms(text) ?? "what?");
