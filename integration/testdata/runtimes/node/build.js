// Writes dist/main.js with what only development dependencies can tell.
const fs = require('fs')
const isNumber = require('is-number')

fs.mkdirSync('dist', { recursive: true })
const source = fs.readFileSync('lib/main.js', 'utf8')
fs.writeFileSync('dist/main.js', source.replace('BUILT', String(isNumber(1))))
